import { Readable } from "node:stream";
import { NotFoundError } from "@drydock/kit";
import { Lineage, Model, ModelFile, ModelStage, Name, PageQuery, VersionOrAlias, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { tarOf } from "../models/tar.ts";
import { binaryResponse, redirectResponse, sendDownload } from "../object-responses.ts";
import { refuseRemoved } from "../planning/model-directory.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

/** A version by its number, or by an alias. */
export const ModelParams = z.object({ name: Name, version: VersionOrAlias });

/** `/v1/models`: what runs made, with where it came from and its files. */
export const modelRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { models, storage } = services;
  const folderOf = ({ name, version }: { name: string; version: number }): string => `models/${name}/${version}`;

  app.get(
    "/models",
    {
      schema: {
        operationId: "listModels",
        summary: "List models by name, newest version first",
        tags: ["models"],
        querystring: PageQuery.extend({ name: Name.optional(), stage: ModelStage.optional() }),
        response: { 200: pageOf(Model), ...problems() },
      },
    },
    async (request) => await models.list(request.query),
  );

  app.get(
    "/models/:name/versions/:version",
    {
      schema: {
        operationId: "getModel",
        summary: "Read a version of a model",
        tags: ["models"],
        params: ModelParams,
        response: { 200: Model, ...problems(404) },
      },
    },
    async (request, reply) => {
      const model = await models.get(request.params.name, request.params.version);
      return await reply.header("etag", model.etag).send(model);
    },
  );

  app.get(
    "/models/:name/versions/:version/lineage",
    {
      schema: {
        operationId: "getModelLineage",
        summary: "Base, data, plan and run that made it",
        tags: ["models"],
        params: ModelParams,
        response: { 200: Lineage, ...problems(404) },
      },
    },
    async (request) => (await models.get(request.params.name, request.params.version)).lineage,
  );

  app.get(
    "/models/:name/versions/:version/files",
    {
      schema: {
        operationId: "listModelFiles",
        summary: "Files of a version, with sizes and digests",
        tags: ["models"],
        params: ModelParams,
        response: { 200: z.object({ items: z.array(ModelFile) }), ...problems(404) },
      },
    },
    async (request) => ({ items: (await models.get(request.params.name, request.params.version)).files }),
  );

  app.get(
    "/models/:name/versions/:version/files/*",
    {
      schema: {
        operationId: "downloadModelFile",
        summary: "Download one file",
        description: "Answers the file, or with object storage on S3 a redirect to it: follow it without the API key.",
        tags: ["models"],
        params: ModelParams.extend({ "*": z.string().max(512) }),
        response: {
          200: binaryResponse("application/octet-stream", "The file"),
          302: redirectResponse,
          ...problems(404, 409),
        },
      },
    },
    async (request, reply) => {
      const { "*": fileName } = request.params;
      const model = await models.get(request.params.name, request.params.version);
      const { name, version } = model;
      refuseRemoved(model);
      const file = model.files.find((each) => each.name === fileName);
      if (file === undefined)
        throw new NotFoundError(
          "file_not_found",
          `model ${name}@${version} has no file "${fileName}": list them with GET /v1/models/${name}/versions/${version}/files`,
        );
      return await sendDownload(request, reply, services, {
        key: `${folderOf(model)}/${file.name}`,
        // What an alias means may change.
        isImmutable: typeof request.params.version === "number",
        fileName: file.name.split("/").at(-1)!,
        sha256: file.sha256,
      });
    },
  );

  app.get(
    "/models/:name/versions/:version/archive",
    {
      schema: {
        operationId: "downloadModel",
        summary: "Download all files as one .tar",
        tags: ["models"],
        params: ModelParams,
        response: { 200: binaryResponse("application/x-tar", "The archive"), ...problems(404, 409) },
      },
    },
    async (request, reply) => {
      const model = await models.get(request.params.name, request.params.version);
      refuseRemoved(model);
      const stem = `${model.name}-${model.version}`;
      const entries = model.files.map(({ name, sizeBytes }) => ({
        name: `${stem}/${name}`,
        sizeBytes,
        modifiedAt: new Date(model.createdAt),
        open: async () => await storage.read(`${folderOf(model)}/${name}`),
      }));
      reply.type("application/x-tar").header("content-disposition", `attachment; filename="${stem}.tar"`);
      return await reply.send(Readable.from(tarOf(entries), { objectMode: false }));
    },
  );
};
