import { PipelineAdvance } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { advancePipelineRun, failPipelineRun, finishStep } from "../pipelines/advance.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { toPipelineRun } from "../store/pipeline-store.ts";
import { PipelineRunParams } from "./pipeline-runs.ts";

const Nothing = z.object({});

/** `/internal/v1/pipeline-runs`: what the controller asks for until a run is over. Every call may be repeated. */
export const internalPipelineRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.post(
    "/pipeline-runs/:id/advance",
    { schema: { hide: true, params: PipelineRunParams, response: { 200: PipelineAdvance, ...problems(404) } } },
    async (request) => await advancePipelineRun(services, request.params.id),
  );

  app.post(
    "/pipeline-runs/:id/promoted",
    {
      schema: {
        hide: true,
        params: PipelineRunParams,
        body: z.strictObject({ previous: z.int().nullable() }),
        response: { 200: Nothing, ...problems(404) },
      },
    },
    async (request) => {
      const run = await services.pipelines.getRun(request.params.id);
      if (run.state !== "running" || toPipelineRun(run).step !== "promote") return {};
      const { previous } = request.body;
      const message = `${run.results.candidate} is in production${previous === null ? "" : `, in place of version ${previous}`}`;
      await finishStep(services, run, "promote", message, { promoted: true });
      return {};
    },
  );

  app.post(
    "/pipeline-runs/:id/failed",
    {
      schema: {
        hide: true,
        params: PipelineRunParams,
        body: z.strictObject({ message: z.string() }),
        response: { 200: Nothing, ...problems(404) },
      },
    },
    async (request) => {
      await failPipelineRun(services, request.params.id, request.body.message);
      return {};
    },
  );
};
