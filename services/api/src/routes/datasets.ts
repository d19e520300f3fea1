import { Dataset, DatasetCreation, Name, PageQuery, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { DatasetStore } from "../store/dataset-store.ts";
import { writeOnce } from "../writes.ts";

export const DatasetParams = z.object({ name: Name });

/** `/v1/datasets`: named collections of pictures with what is said about them. */
export const datasetRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { datasets, writes } = services;

  app.post(
    "/datasets",
    {
      schema: {
        operationId: "createDataset",
        summary: "Make a data set",
        tags: ["datasets"],
        body: DatasetCreation,
        response: { 201: Dataset, ...problems(409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const dataset = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const answer = await new DatasetStore(tx).insert(request.body.name, request.body.description);
          return { answer, object: answer.id };
        },
      });
      return await reply.code(201).header("location", `/v1/datasets/${dataset.name}`).send(dataset);
    },
  );

  app.get(
    "/datasets",
    {
      schema: {
        operationId: "listDatasets",
        summary: "List data sets, newest first",
        tags: ["datasets"],
        querystring: PageQuery,
        response: { 200: pageOf(Dataset), ...problems() },
      },
    },
    async (request) => await datasets.list(request.query),
  );

  app.get(
    "/datasets/:name",
    {
      schema: {
        operationId: "getDataset",
        summary: "Read a data set",
        tags: ["datasets"],
        params: DatasetParams,
        response: { 200: Dataset, ...problems(404) },
      },
    },
    async (request) => await datasets.get(request.params.name),
  );
};
