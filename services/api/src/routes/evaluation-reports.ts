import { EvaluationSuite, Evaluation, SampleResult } from "@drydock/spec";
import type { FastifyReply } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { readAllSamples } from "../evaluations/read-all-samples.ts";
import { binaryResponse } from "../object-responses.ts";
import { problems } from "../problem-responses.ts";
import { collectRows } from "../reports/collect-rows.ts";
import { evaluationCsv, suiteCsv } from "../reports/csv.ts";
import { evaluationHtml } from "../reports/evaluation-html.ts";
import { contentSecurityPolicy } from "../reports/html-page.ts";
import { suiteHtml } from "../reports/suite-html.ts";
import type { Services } from "../services.ts";
import { SuiteParams } from "./evaluation-suites.ts";
import { EvaluationParams } from "./evaluations.ts";

const ReportQuery = z.strictObject({
  rows: z.coerce.number().int().min(0).max(500).default(50).meta({ description: "Rows to show, with pictures" }),
  order: z
    .enum(["file", "worst"])
    .default("file")
    .meta({ description: "`worst`: rows with the lowest headline score first" }),
});

const JsonReport = z
  .object({ evaluation: Evaluation, samples: z.array(SampleResult) })
  .meta({ id: "EvaluationReport" });

/** Reports of evaluations and suites, for people and for other programs. */
export const evaluationReportRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { evaluations, suites, storage } = services;

  app.get(
    "/evaluations/:evaluationId/report.html",
    {
      schema: {
        operationId: "getEvaluationHtmlReport",
        summary: "One HTML file: scores with intervals, slices, and rows with pictures and boxes",
        tags: ["evaluations"],
        params: EvaluationParams,
        querystring: ReportQuery,
        response: { 200: binaryResponse("text/html", "The report"), ...problems(404, 409, 422) },
      },
    },
    async (request, reply) => {
      const evaluation = await evaluations.get(request.params.evaluationId);
      const samples = await readAllSamples(storage, evaluation);
      return await sendHtml(reply, evaluationHtml(await collectRows(storage, evaluation, samples, request.query)));
    },
  );

  app.get(
    "/evaluations/:evaluationId/report.csv",
    {
      schema: {
        operationId: "getEvaluationCsvReport",
        summary: "Every row with its answer and scores, as CSV",
        tags: ["evaluations"],
        params: EvaluationParams,
        response: { 200: binaryResponse("text/csv", "The rows"), ...problems(404, 409, 422) },
      },
    },
    async (request, reply) => {
      const evaluation = await evaluations.get(request.params.evaluationId);
      const samples = await readAllSamples(storage, evaluation);
      return await sendCsv(reply, evaluation.id, evaluationCsv(evaluation, samples));
    },
  );

  app.get(
    "/evaluations/:evaluationId/report.json",
    {
      schema: {
        operationId: "getEvaluationJsonReport",
        summary: "The evaluation and every row",
        tags: ["evaluations"],
        params: EvaluationParams,
        response: { 200: JsonReport, ...problems(404, 409, 422) },
      },
    },
    async (request) => {
      const evaluation = await evaluations.get(request.params.evaluationId);
      return { evaluation, samples: await readAllSamples(storage, evaluation) };
    },
  );

  app.get(
    "/evaluation-suites/:suiteId/report.html",
    {
      schema: {
        operationId: "getSuiteHtmlReport",
        summary: "One HTML file: the ranking, and models by data sets for each metric",
        tags: ["evaluations"],
        params: SuiteParams,
        response: { 200: binaryResponse("text/html", "The report"), ...problems(404) },
      },
    },
    async (request, reply) => await sendHtml(reply, suiteHtml(await suites.get(request.params.suiteId))),
  );

  app.get(
    "/evaluation-suites/:suiteId/report.csv",
    {
      schema: {
        operationId: "getSuiteCsvReport",
        summary: "One line for each model, data set and metric, as CSV",
        tags: ["evaluations"],
        params: SuiteParams,
        response: { 200: binaryResponse("text/csv", "The scores"), ...problems(404) },
      },
    },
    async (request, reply) => {
      const suite = await suites.get(request.params.suiteId);
      return await sendCsv(reply, suite.id, suiteCsv(suite));
    },
  );

  app.get(
    "/evaluation-suites/:suiteId/report.json",
    {
      schema: {
        operationId: "getSuiteJsonReport",
        summary: "The suite, as GET of the suite gives it",
        tags: ["evaluations"],
        params: SuiteParams,
        response: { 200: EvaluationSuite, ...problems(404) },
      },
    },
    async (request) => await suites.get(request.params.suiteId),
  );
};

async function sendHtml(reply: FastifyReply, text: string): Promise<FastifyReply> {
  return await reply
    .type("text/html; charset=utf-8")
    .header("content-security-policy", contentSecurityPolicy)
    .header("x-content-type-options", "nosniff")
    .send(text);
}

async function sendCsv(reply: FastifyReply, name: string, text: string): Promise<FastifyReply> {
  return await reply
    .type("text/csv; charset=utf-8")
    .header("content-disposition", `attachment; filename="${name}.csv"`)
    .header("x-content-type-options", "nosniff")
    .send(text);
}
