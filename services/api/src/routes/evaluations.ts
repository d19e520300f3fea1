import { NotFoundError } from "@drydock/kit";
import { Evaluation, EvaluationRequest, EvaluationSuite, PageQuery, SampleResult, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { cancelEvaluation } from "../evaluations/cancel-evaluation.ts";
import { pictureKeyOf } from "../evaluations/picture-key.ts";
import { readSamplesPage } from "../evaluations/read-samples-page.ts";
import { readRequest } from "../evaluations/read-request.ts";
import { prepareEvaluation, submitEvaluation } from "../evaluations/submit-evaluation.ts";
import { prepareSuite, submitSuite } from "../evaluations/submit-suite.ts";
import { binaryResponse, sendObject } from "../object-responses.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { writeOnce } from "../writes.ts";

export const EvaluationParams = z.object({ evaluationId: z.string().max(128) });

const EvaluationQuery = PageQuery.extend({
  runId: z.string().max(64).optional(),
  suiteId: z.string().max(64).optional(),
  state: Evaluation.shape.state.optional(),
});

const SamplesQuery = z.strictObject({
  offset: z.coerce.number().int().min(0).default(0),
  limit: z.coerce.number().int().min(1).max(200).default(50),
});

const Samples = z
  .object({ items: z.array(SampleResult.extend({ imageUrl: z.string().nullable() })), total: z.int() })
  .meta({ id: "EvaluationSamples" });

/** `/v1/evaluations`: scores of models on the validation split of a data-set version, row by row. */
export const evaluationRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { evaluations, storage, writes, outbox } = services;

  app.post(
    "/evaluations",
    {
      schema: {
        operationId: "createEvaluation",
        summary: "Score a model, or each of several, on the validation split of one data set or several",
        description:
          "`model` and `dataset` make one evaluation; `models` or `datasets`, or both, make a suite, whose pairs are evaluations of their own and run side by side as there is room.",
        tags: ["evaluations"],
        body: EvaluationRequest,
        response: { 201: z.union([Evaluation, EvaluationSuite]), ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const wanted = readRequest(request.body);
      const made = await writeOnce(writes, request, reply, {
        prepare: async () =>
          wanted.kind === "suite"
            ? { kind: "suite" as const, prepared: await prepareSuite(services, wanted.spec) }
            : { kind: "evaluation" as const, prepared: await prepareEvaluation(services, wanted.spec) },
        write: async (tx, { kind, prepared }) => {
          const answer = kind === "suite" ? await submitSuite(tx, prepared) : await submitEvaluation(tx, prepared);
          return { answer, object: answer.id };
        },
      });
      outbox.kick();
      const folder = wanted.kind === "suite" ? "evaluation-suites" : "evaluations";
      return await reply.code(201).header("location", `/v1/${folder}/${made.id}`).send(made);
    },
  );

  app.get(
    "/evaluations",
    {
      schema: {
        operationId: "listEvaluations",
        summary: "List evaluations, newest first",
        tags: ["evaluations"],
        querystring: EvaluationQuery,
        response: { 200: pageOf(Evaluation), ...problems() },
      },
    },
    async (request) => await evaluations.list(request.query),
  );

  app.get(
    "/evaluations/:evaluationId",
    {
      schema: {
        operationId: "getEvaluation",
        summary: "Read an evaluation",
        tags: ["evaluations"],
        params: EvaluationParams,
        response: { 200: Evaluation, ...problems(404) },
      },
    },
    async (request) => await evaluations.get(request.params.evaluationId),
  );

  app.post(
    "/evaluations/:evaluationId/cancel",
    {
      schema: {
        operationId: "cancelEvaluation",
        summary: "End an evaluation: its workers stop, nothing is scored",
        tags: ["evaluations"],
        params: EvaluationParams,
        body: z.strictObject({}).nullish(),
        response: { 200: Evaluation, ...problems(404, 409, 415, 422) },
      },
    },
    async (request, reply) => {
      const evaluation = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const cancelled = await cancelEvaluation(tx, request.params.evaluationId);
          return { answer: cancelled.evaluation, object: cancelled.isChanged ? cancelled.evaluation.id : null };
        },
      });
      outbox.kick();
      return evaluation;
    },
  );

  app.get(
    "/evaluations/:evaluationId/samples",
    {
      schema: {
        operationId: "listEvaluationSamples",
        summary: "Row by row: question, right answer, the model's answer, scores, picture",
        tags: ["evaluations"],
        params: EvaluationParams,
        querystring: SamplesQuery,
        response: { 200: Samples, ...problems(404) },
      },
    },
    async (request) => {
      const { id, resultsKey } = await evaluations.get(request.params.evaluationId);
      if (resultsKey === null) return { items: [], total: 0 };
      const { offset, limit } = request.query;
      const page = await readSamplesPage(storage, resultsKey, offset, limit);
      const items = page.items.map((sample, index) => ({
        ...sample,
        imageUrl: sample.imageKey === null ? null : `/v1/evaluations/${id}/samples/${offset + index}/image`,
      }));
      return { items, total: page.total };
    },
  );

  app.get(
    "/evaluations/:evaluationId/samples/:index/image",
    {
      schema: {
        operationId: "getEvaluationImage",
        summary: "The picture of a sample",
        tags: ["evaluations"],
        params: EvaluationParams.extend({ index: z.coerce.number().int().min(0) }),
        response: { 200: binaryResponse("image/*", "The picture"), ...problems(404) },
      },
    },
    async (request, reply) => {
      const { evaluationId, index } = request.params;
      const { resultsKey } = await evaluations.get(evaluationId);
      const sample = resultsKey === null ? undefined : (await readSamplesPage(storage, resultsKey, index, 1)).items[0];
      const key = sample === undefined ? null : pictureKeyOf(sample);
      if (key === null)
        throw new NotFoundError("image_not_found", `sample ${index} of evaluation ${evaluationId} has no picture`);
      return await sendObject(request, reply, storage, { key, isImmutable: true });
    },
  );
};
