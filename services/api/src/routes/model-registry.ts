import { newId } from "@drydock/kit";
import {
  Model,
  ModelChange,
  ModelComparison,
  ModelEvent,
  Name,
  PageQuery,
  PromotionResult,
  RollbackRequest,
  StageChange,
  VersionOrAlias,
  pageOf,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { problems } from "../problem-responses.ts";
import { changeNotes, changeStage } from "../registry/change-model.ts";
import { compareModels, withSpecs } from "../registry/compare-models.ts";
import { listModelEvents } from "../registry/model-history.ts";
import { requireSound } from "../registry/model-verifier.ts";
import { promoteModel } from "../registry/promote-model.ts";
import { rollBack } from "../registry/roll-back.ts";
import type { Services } from "../services.ts";
import { ModelStore } from "../store/model-store.ts";
import { writeOnce } from "../writes.ts";

/** Changes name a version by its number: an alias may move between reading and writing. */
export const NumberedParams = z.object({ name: Name, version: z.coerce.number().int().positive() });
export const NameParams = z.object({ name: Name });

export const IfMatch = z.object({
  "if-match": z.string().max(200).optional().meta({ description: "ETag of the version as you know it" }),
});

const CompareQuery = z.strictObject({
  versions: z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(VersionOrAlias).min(2, "name two versions or more, with commas between").max(10))
    .meta({ description: "Numbers or aliases, with commas between; the first is what others are measured against" }),
});

/** What is done with models once they are made: stages, notes, history, comparison, rollback. */
export const modelRegistryRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, writes, database } = services;

  app.patch(
    "/models/:name/versions/:version",
    {
      schema: {
        operationId: "changeModel",
        summary: "Change the notes of a version",
        tags: ["models"],
        params: NumberedParams,
        body: ModelChange,
        headers: IfMatch,
        response: { 200: Model, ...problems(404, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name, version } = request.params;
      const model = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const change = { ...request.params, actor: callerOf(request).id, ifMatch: request.headers["if-match"] };
          const { isChanged } = await changeNotes(tx, { ...change, notes: request.body.notes });
          return {
            answer: await new ModelStore(tx).get(name, version),
            object: isChanged ? `${name}@${version}` : null,
          };
        },
      });
      return await reply.header("etag", model.etag).send(model);
    },
  );

  app.post(
    "/models/:name/versions/:version/stage",
    {
      schema: {
        operationId: "changeModelStage",
        summary: "Move a version to another stage",
        description:
          "To `production`: its files are compared with the signed manifest first (which takes as long as reading them), the alias `production` comes with it, and the version before is archived.",
        tags: ["models"],
        params: NumberedParams,
        body: StageChange,
        headers: IfMatch,
        response: { 200: Model, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name, version } = request.params;
      const { to, message } = request.body;
      const model = await writeOnce(writes, request, reply, {
        prepare: async () => (to === "production" ? await verifyToPromote(services, name, version) : null),
        write: async (tx, manifestDigest) => {
          const change = { name, version, message, actor: callerOf(request).id, ifMatch: request.headers["if-match"] };
          const { isChanged } =
            to === "production"
              ? await promoteModel(tx, {
                  ...change,
                  to,
                  key: newId("event"),
                  manifestDigest: manifestDigest ?? undefined,
                })
              : await changeStage(tx, { ...change, to });
          return {
            answer: await new ModelStore(tx).get(name, version),
            object: isChanged ? `${name}@${version}` : null,
          };
        },
      });
      return await reply.header("etag", model.etag).send(model);
    },
  );

  app.get(
    "/models/:name/history",
    {
      schema: {
        operationId: "listModelHistory",
        summary: "What happened to a model, newest first",
        tags: ["models"],
        params: NameParams,
        querystring: PageQuery.extend({ version: z.coerce.number().int().positive().optional() }),
        response: { 200: pageOf(ModelEvent), ...problems(404) },
      },
    },
    async (request) => {
      await models.get(request.params.name, request.query.version ?? null);
      return await listModelEvents(database, request.params.name, request.query);
    },
  );

  app.get(
    "/models/:name/compare",
    {
      schema: {
        operationId: "compareModels",
        summary: "Versions beside each other: specs, data, scores, lineage",
        tags: ["models"],
        params: NameParams,
        querystring: CompareQuery,
        response: { 200: ModelComparison, ...problems(404) },
      },
    },
    async (request) => {
      const { name } = request.params;
      const versions = [];
      for (const version of request.query.versions) versions.push(await models.get(name, version));
      return compareModels(name, await withSpecs(database, versions));
    },
  );

  app.post(
    "/models/:name/rollback",
    {
      schema: {
        operationId: "rollBackModel",
        summary: "Put the version into production again that was there before",
        tags: ["models"],
        params: NameParams,
        body: RollbackRequest,
        response: { 200: PromotionResult, ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) =>
      await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const { name } = request.params;
          const { message } = request.body;
          const answer = await rollBack(tx, { name, message, actor: callerOf(request).id, key: newId("event") });
          return { answer, object: `${name}@${answer.version}` };
        },
      }),
  );
};

/** @returns digest of the manifest that the files fit */
async function verifyToPromote({ verifier }: Services, name: string, version: number): Promise<string | null> {
  const verification = await verifier.verify(name, version);
  requireSound(verification);
  return verification.manifestDigest;
}
