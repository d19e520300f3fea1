import { PipelineAdvance } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { advancePipelineRun, failPipelineRun } from "../pipelines/advance.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
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
