import { AliasChange, AliasTarget, Model, ModelAlias, Name } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { problems } from "../problem-responses.ts";
import { listAliases, removeAlias, setAlias } from "../registry/change-model.ts";
import type { Services } from "../services.ts";
import { ModelStore } from "../store/model-store.ts";
import { writeOnce } from "../writes.ts";
import { IfMatch, NameParams } from "./model-registry.ts";

const AliasParams = z.object({ name: Name, alias: ModelAlias });

/** `/v1/models/{name}/aliases`: names that point at a version. */
export const modelAliasRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, writes, database } = services;

  app.get(
    "/models/:name/aliases",
    {
      schema: {
        operationId: "listModelAliases",
        summary: "Aliases of a model, and what they mean",
        tags: ["models"],
        params: NameParams,
        response: { 200: z.object({ items: z.array(AliasTarget) }), ...problems(404) },
      },
    },
    async (request) => {
      await models.get(request.params.name, null);
      return { items: await listAliases(database, request.params.name) };
    },
  );

  app.put(
    "/models/:name/aliases/:alias",
    {
      schema: {
        operationId: "setModelAlias",
        summary: "Point an alias at a version",
        description: "`name@alias` then means that version wherever `name@version` may stand.",
        tags: ["models"],
        params: AliasParams,
        body: AliasChange,
        headers: IfMatch,
        response: { 200: Model, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name, alias } = request.params;
      const { version } = request.body;
      const model = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const change = { name, version, actor: callerOf(request).id, ifMatch: request.headers["if-match"] };
          const { isChanged } = await setAlias(tx, { ...change, alias });
          return { answer: await new ModelStore(tx).get(name, version), object: isChanged ? `${name}@${alias}` : null };
        },
      });
      return await reply.header("etag", model.etag).send(model);
    },
  );

  app.delete(
    "/models/:name/aliases/:alias",
    {
      schema: {
        operationId: "removeModelAlias",
        summary: "Remove an alias; the version stays",
        tags: ["models"],
        params: AliasParams,
        response: { 200: Model, ...problems(404, 422) },
      },
    },
    async (request, reply) => {
      const { name, alias } = request.params;
      return await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const { version } = await removeAlias(tx, { name, alias, actor: callerOf(request).id });
          return { answer: await new ModelStore(tx).get(name, version), object: `${name}@${alias}` };
        },
      });
    },
  );
};
