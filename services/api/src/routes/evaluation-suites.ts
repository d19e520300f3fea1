import { EvaluationSuite, PageQuery, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

export const SuiteParams = z.object({ suiteId: z.string().max(64) });

/** `/v1/evaluation-suites`: several models on several data sets, with scores side by side. Made by `POST /v1/evaluations`. */
export const evaluationSuiteRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { suites } = services;

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
};
