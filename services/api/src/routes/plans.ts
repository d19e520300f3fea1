import { Plan, RunSpec } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { answerOnce } from "../writes.ts";

/** `/v1/plans`: what a run would need, and why. */
export const planRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.post(
    "/plans",
    {
      schema: {
        operationId: "planRun",
        summary: "Plan a run without submitting it",
        description:
          "Holds no GPU and writes nothing. Refusals are part of the answer; `digest` may be given to `POST /v1/runs` as `expect.planDigest`.",
        tags: ["plans"],
        body: RunSpec,
        response: { 200: Plan, ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) =>
      await answerOnce(services.writes, request, reply, async () => await services.planner.planAsAdvice(request.body)),
  );
};
