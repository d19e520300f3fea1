import { EvaluationComparison } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { compareStored } from "../evaluations/compare-stored.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

const ComparisonQuery = z.strictObject({
  a: z.string().max(128).meta({ description: "Id of an evaluation" }),
  b: z.string().max(128).meta({ description: "Id of the evaluation that it is compared with" }),
  metric: z.string().max(64).optional().meta({ description: "Default: the headline of `a`" }),
  slice: z
    .string()
    .max(200)
    .optional()
    .meta({ description: "`tag:night`, `class:dog`, `size:small`, or the part after the colon; default: every slice" }),
});

/** `/v1/evaluations/compare`: is one model better than another on the same rows? */
export const evaluationComparisonRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { evaluations } = services;

  app.get(
    "/evaluations/compare",
    {
      schema: {
        operationId: "compareEvaluations",
        summary: "Compare two evaluations of the same data set, row by row",
        description:
          "The difference is a − b on the rows that both answered, with the interval of a paired bootstrap and the p-value of a permutation test; so for each slice. Rows that `a` answered better are `won`, worse `lost`.",
        tags: ["evaluations"],
        querystring: ComparisonQuery,
        response: { 200: EvaluationComparison, ...problems(404, 409, 422) },
      },
    },
    async (request) => {
      const { a, b, ...question } = request.query;
      return await compareStored(services, await evaluations.get(a), await evaluations.get(b), question);
    },
  );
};
