import { ConflictError, NotFoundError } from "@drydock/kit";
import { datasetKeys } from "@drydock/data";
import {
  DatasetPreview,
  DatasetVersion,
  ImportOptions,
  PageQuery,
  ValidationReport,
  pageOf,
  temporalNames,
  type DatasetInput,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { binaryResponse, sendObject } from "../object-responses.ts";
import { problems } from "../problem-responses.ts";
import { readRecordsPage } from "../datasets/read-records-page.ts";
import type { Services } from "../services.ts";
import { DatasetStore } from "../store/dataset-store.ts";
import { uploadPrefix } from "../uploads/receive-upload.ts";
import { enqueue } from "../workflows/outbox.ts";
import { writeOnce } from "../writes.ts";
import { DatasetParams } from "./datasets.ts";

const VersionParams = DatasetParams.extend({ version: z.coerce.number().int().positive() });

const VersionCreation = z
  .strictObject({
    uploadId: z.string().min(1).max(64).meta({ description: "Answered by POST /v1/datasets/{name}/uploads" }),
    options: ImportOptions.prefault({}),
  })
  .meta({ id: "DatasetVersionCreation" });

const PreviewQuery = z.strictObject({
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(200).default(20),
  split: z.enum(["train", "validation"]).optional(),
});

/** `/v1/datasets/{name}/versions`: imported, checked, never changed afterwards. */
export const datasetVersionRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { datasets, storage, writes, outbox } = services;

  app.post(
    "/datasets/:name/versions",
    {
      schema: {
        operationId: "createDatasetVersion",
        summary: "Import an upload as the next version",
        description:
          "Starts the import and answers at once; read the version until its `state` is `ready` or `failed`.",
        tags: ["datasets"],
        params: DatasetParams,
        body: VersionCreation,
        response: { 201: DatasetVersion, ...problems(404, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { name } = request.params;
      const { uploadId, options } = request.body;
      const version = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const { version: answer, datasetId } = await new DatasetStore(tx).insertVersion(name, uploadId, options);
          const input: DatasetInput = {
            versionId: answer.id,
            dataset: name,
            datasetId,
            version: answer.version,
            uploadKey: uploadPrefix(uploadId),
            options,
          };
          await enqueue(tx, { kind: "start", workflowId: answer.id, name: temporalNames.dataset, input });
          return { answer, object: answer.id };
        },
      });
      outbox.kick();
      return await reply.code(201).header("location", `/v1/datasets/${name}/versions/${version.version}`).send(version);
    },
  );

  app.get(
    "/datasets/:name/versions",
    {
      schema: {
        operationId: "listDatasetVersions",
        summary: "List versions, newest first",
        tags: ["datasets"],
        params: DatasetParams,
        querystring: PageQuery,
        response: { 200: pageOf(DatasetVersion), ...problems(404) },
      },
    },
    async (request) => await datasets.listVersions(request.params.name, request.query),
  );

  app.get(
    "/datasets/:name/versions/:version",
    {
      schema: {
        operationId: "getDatasetVersion",
        summary: "Read a version",
        tags: ["datasets"],
        params: VersionParams,
        response: { 200: DatasetVersion, ...problems(404) },
      },
    },
    async (request) => await datasets.getVersion(request.params.name, request.params.version),
  );

  app.get(
    "/datasets/:name/versions/:version/report",
    {
      schema: {
        operationId: "getDatasetReport",
        summary: "What was found while checking: rows, files and reasons",
        tags: ["datasets"],
        params: VersionParams,
        response: { 200: ValidationReport, ...problems(404, 409) },
      },
    },
    async (request) => {
      const { name, version } = request.params;
      const report = await datasets.getReport(name, version);
      if (report !== null) return report;
      const { state, reason } = await datasets.getVersion(name, version);
      if (state === "validating")
        throw new ConflictError(
          "report_not_ready",
          `version ${version} of data set "${name}" is still being checked: ask again when its state is ready or failed`,
        );
      throw new NotFoundError(
        "no_report",
        `version ${version} of data set "${name}" has no report: its import ended before any row was read${reason === null ? "" : ` (${reason})`}`,
      );
    },
  );

  app.get(
    "/datasets/:name/versions/:version/preview",
    {
      schema: {
        operationId: "previewDataset",
        summary: "Rows as stored, with their pictures",
        tags: ["datasets"],
        params: VersionParams,
        querystring: PreviewQuery,
        response: {
          200: DatasetPreview,
          ...problems(404, 409),
        },
      },
    },
    async (request) => {
      const { name, version } = request.params;
      const { datasetId, state } = await datasets.locate(name, version);
      if (state !== "ready")
        throw new ConflictError(
          "dataset_not_ready",
          `version ${version} of data set "${name}" is ${state}: only a ready one has rows to show`,
        );
      const page = await readRecordsPage(storage, datasetKeys.records(datasetId, version), request.query);
      const rows = page.rows.map((row) => ({
        ...row,
        imageUrls: row.images.map(({ key }) => `/v1/datasets/${name}/images/${key.split("/").at(-1)}`),
      }));
      return { rows, total: page.total };
    },
  );

  app.get(
    "/datasets/:name/images/:file",
    {
      schema: {
        operationId: "getDatasetImage",
        summary: "One picture, by its content",
        tags: ["datasets"],
        params: DatasetParams.extend({
          file: z.string().regex(/^[0-9a-f]{64}\.[a-z0-9]{1,8}$/, "use the file name that the preview gives"),
        }),
        response: {
          200: binaryResponse("image/*", "The picture"),
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { name, file } = request.params;
      const { id } = await datasets.get(name);
      return await sendObject(request, reply, storage, { key: `datasets/${id}/images/${file}`, isImmutable: true });
    },
  );
};
