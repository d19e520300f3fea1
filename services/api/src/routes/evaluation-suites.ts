import { EvaluationSuite, PageQuery, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { cancelEvaluation } from "../evaluations/cancel-evaluation.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { EvaluationStore } from "../store/evaluation-store.ts";
import { SuiteStore } from "../store/suite-store.ts";
import { writeOnce } from "../writes.ts";

export const SuiteParams = z.object({ suiteId: z.string().max(64) });

/** `/v1/evaluation-suites`: several models on several data sets, with scores side by side. Made by `POST /v1/evaluations`. */
export const evaluationSuiteRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { suites, writes, outbox } = services;

  app.get(
    "/evaluation-suites",
    {
      schema: {
        operationId: "listEvaluationSuites",
        summary: "List evaluation suites, newest first",
        tags: ["evaluations"],
        querystring: PageQuery,
        response: { 200: pageOf(EvaluationSuite), ...problems() },
      },
    },
    async (request) => await suites.list(request.query),
  );

  app.get(
    "/evaluation-suites/:suiteId",
    {
      schema: {
        operationId: "getEvaluationSuite",
        summary: "Read a suite: its state, the scores of every pair with their intervals, and the ranking",
        tags: ["evaluations"],
        params: SuiteParams,
        response: { 200: EvaluationSuite, ...problems(404) },
      },
    },
    async (request) => await suites.get(request.params.suiteId),
  );

  app.post(
    "/evaluation-suites/:suiteId/cancel",
    {
      schema: {
        operationId: "cancelEvaluationSuite",
        summary: "End the evaluations of a suite that are not over; what was scored stays",
        tags: ["evaluations"],
        params: SuiteParams,
        body: z.strictObject({}).nullish(),
        response: { 200: EvaluationSuite, ...problems(404, 415, 422) },
      },
    },
    async (request, reply) => {
      const suite = await writeOnce(writes, request, reply, {
        prepare: async () => await suites.get(request.params.suiteId),
        write: async (tx, { id }) => {
          const open = await new EvaluationStore(tx).lockOpenOfSuite(id);
          for (const evaluationId of open) await cancelEvaluation(tx, evaluationId);
          return { answer: await new SuiteStore(tx).get(id), object: open.length === 0 ? null : id };
        },
      });
      outbox.kick();
      return suite;
    },
  );
};
