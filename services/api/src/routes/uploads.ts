import { InvalidError, messageOf, newId, UnprocessableError } from "@drydock/kit";
import { Timestamp } from "@drydock/spec";
import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { Readable } from "node:stream";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { DatasetStore } from "../store/dataset-store.ts";
import { receiveUpload, removeUpload, type IncomingFile } from "../uploads/receive-upload.ts";
import { writeCallerOf } from "../writes.ts";
import { DatasetParams } from "./datasets.ts";

const Upload = z
  .object({ id: z.string(), dataset: z.string(), files: z.int(), sizeBytes: z.int(), createdAt: Timestamp })
  .meta({ id: "Upload" });

const UploadQuery = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(512)
    .default("upload")
    .meta({ description: "File name of a body that is one archive or one file: `pictures.zip`" }),
});

/** Bodies that are one file, streamed. */
const fileTypes = [
  "application/zip",
  "application/x-zip-compressed",
  "application/x-tar",
  "application/gzip",
  "application/x-gzip",
  "application/octet-stream",
];

/** `/v1/datasets/{name}/uploads`: the files of a version to be. */
export const uploadRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { datasets, storage, writes, limits } = services;

  for (const type of fileTypes)
    app.addContentTypeParser(type, async (_request: FastifyRequest, payload: Readable) => payload);

  app.post(
    "/datasets/:name/uploads",
    {
      bodyLimit: limits.uploadTotalBytes,
      schema: {
        operationId: "uploadFiles",
        summary: "Send the files of a version",
        description:
          "`multipart/form-data` with any number of files (their names may hold folders), or one archive as the body (`application/zip`, `application/x-tar`, `application/gzip`, `application/octet-stream`) with `?name=`. The files are streamed to object storage; the answer's `id` goes into `POST /v1/datasets/{name}/versions`.",
        consumes: ["multipart/form-data", ...fileTypes],
        tags: ["datasets"],
        params: DatasetParams,
        querystring: UploadQuery,
        response: { 201: Upload, ...problems(404, 413, 415, 422, 507) },
      },
    },
    async (request, reply) => {
      const dataset = await datasets.get(request.params.name);
      const id = newId("upload");
      // The body is read before anything is known of a repeat, since only its content tells whether it is one.
      const received = await receiveUpload(id, incomingFiles(request), storage, limits).catch((error: unknown) => {
        throw asBrokenUpload(error) ?? error;
      });
      const outcome = await writes
        .once(writeCallerOf(request), {
          bodyDigest: received.digest,
          prepare: async () => null,
          write: async (tx) => {
            const { files, sizeBytes } = received;
            const { createdAt } = await new DatasetStore(tx).insertUpload({
              id,
              datasetId: dataset.id,
              files,
              sizeBytes,
            });
            return { answer: { id, dataset: dataset.name, files, sizeBytes, createdAt }, object: id };
          },
        })
        .catch(async (error: unknown) => {
          if (error instanceof UnprocessableError) await removeUpload(id, storage);
          throw error;
        });
      if (outcome.isReplay) {
        await removeUpload(id, storage);
        reply.header("idempotency-replayed", "true");
      }
      return await reply.code(201).send(outcome.answer);
    },
  );

  async function* incomingFiles(
    request: FastifyRequest<{ Querystring: { name: string } }>,
  ): AsyncGenerator<IncomingFile> {
    if (request.body instanceof Readable) {
      yield { name: request.query.name, content: request.body };
      return;
    }
    const options = {
      preservePath: true,
      limits: { fileSize: limits.uploadFileBytes + 1, files: limits.uploadFiles + 1, parts: limits.uploadFiles + 100 },
    };
    for await (const part of request.files(options)) yield { name: part.filename, content: part.file };
  }
};

/** What the multipart parser says of a body that it cannot read has no code of its own. Null when it is something else. */
function asBrokenUpload(error: unknown): InvalidError | null {
  const reason = messageOf(error);
  if (!/multipart data|^Multipart: |^Malformed part header/i.test(reason)) return null;
  return new InvalidError("broken_upload", `the upload cannot be read (${reason}): was it cut off? Send it again`, {
    cause: error,
  });
}
