import {
  Name,
  PageQuery,
  pageOf,
  Plan,
  Run,
  RunChange,
  RunResize,
  RunState,
  RunSubmission,
  RunSummary,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { problems } from "../problem-responses.ts";
import { changePriority } from "../runs/change-priority.ts";
import { planResize, resizeRun } from "../runs/resize-run.ts";
import { checkPlan, submitRun } from "../runs/submit-run.ts";
import { steerRun, type RunAction } from "../runs/steer-run.ts";
import { withWaiting } from "../scheduling/queue-forecasts.ts";
import type { Services } from "../services.ts";
import { writeOnce } from "../writes.ts";

export const RunParams = z.object({ runId: z.string().max(64) });

const RunQuery = PageQuery.extend({
  state: z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(RunState))
    .optional()
    .meta({ description: "One state, or several with commas between" }),
  name: Name.optional(),
  queue: Name.optional(),
  dataset: Name.optional(),
});

const SteerHeaders = z.object({
  "if-match": z.string().max(200).optional().meta({ description: "ETag of the run as you know it" }),
});

const actions: readonly { readonly action: RunAction; readonly summary: string }[] = [
  { action: "pause", summary: "Finish the step, write a checkpoint, free the worker" },
  { action: "resume", summary: "Go on from the last checkpoint" },
  { action: "cancel", summary: "End a run; its checkpoints are kept" },
];

/** `/v1/runs`: submit, read and steer fine-tuning runs. */
export const runRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { runs, writes, planner, outbox, feed, datasets, forecasts } = services;

  app.post(
    "/runs",
    {
      schema: {
        operationId: "submitRun",
        summary: "Submit a run",
        description:
          "Refused with 422 when its plan has refusals, with 409 when `expect.planDigest` is no longer the plan's.",
        tags: ["runs"],
        body: RunSubmission,
        response: { 201: Run, ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { expect, ...spec } = request.body;
      const run = await writeOnce(writes, request, reply, {
        prepare: async () => {
          const planned = await planner.planToRun(spec);
          checkPlan(planned, expect?.planDigest);
          return planned;
        },
        write: async (tx, planned) => {
          const answer = await submitRun(tx, planned, callerOf(request).id);
          return { answer, object: answer.id };
        },
      });
      outbox.kick();
      return await reply.code(201).header("location", `/v1/runs/${run.id}`).header("etag", run.etag).send(run);
    },
  );

  app.get(
    "/runs",
    {
      schema: {
        operationId: "listRuns",
        summary: "List runs, newest first",
        tags: ["runs"],
        querystring: RunQuery,
        response: { 200: pageOf(RunSummary), ...problems(404) },
      },
    },
    async (request) => {
      const { dataset, ...filter } = request.query;
      const page = await runs.list({
        ...filter,
        datasetId: dataset === undefined ? undefined : (await datasets.get(dataset)).id,
      });
      const { waiting } = await forecasts.current();
      return { ...page, items: page.items.map((run) => withWaiting(run, waiting.get(run.id) ?? null)) };
    },
  );

  app.get(
    "/runs/:runId",
    {
      schema: {
        operationId: "getRun",
        summary: "Read a run",
        tags: ["runs"],
        params: RunParams,
        response: { 200: Run, ...problems(404) },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      const run = await forecasts.explain(await runs.get(runId));
      return await reply.header("etag", run.etag).send(run);
    },
  );

  app.patch(
    "/runs/:runId",
    {
      schema: {
        operationId: "changeRun",
        summary: "Change the priority of a run that waits",
        description:
          "Refused with 409 when the run holds its GPUs already. Those who wait behind are told their new place within seconds.",
        tags: ["runs"],
        params: RunParams,
        body: RunChange,
        headers: SteerHeaders,
        response: { 200: Run, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      const changed = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const change = { runId, change: request.body, actor: callerOf(request).id };
          const { run, isChanged } = await changePriority(tx, { ...change, ifMatch: request.headers["if-match"] });
          return { answer: run, object: isChanged ? runId : null };
        },
      });
      forecasts.forget();
      feed.notify(runId);
      const run = await forecasts.explain(changed);
      return await reply.header("etag", run.etag).send(run);
    },
  );

  app.get(
    "/runs/:runId/plan",
    {
      schema: {
        operationId: "getRunPlan",
        summary: "Read the plan that a run follows: the one it was submitted with, or that of its last resize",
        tags: ["runs"],
        params: RunParams,
        response: { 200: Plan, ...problems(404) },
      },
    },
    async (request) => (await runs.get(request.params.runId)).plan,
  );

  app.post(
    "/runs/:runId/resize",
    {
      schema: {
        operationId: "resizeRun",
        summary: "Go on with more or fewer GPUs",
        description:
          "Plans the run again for so many GPUs, stops it after a checkpoint and goes on with the new layout. The global batch, the steps and the order of the data stay, so the losses do. Refused with 422 when the run cannot have so many.",
        tags: ["runs"],
        params: RunParams,
        body: RunResize,
        headers: SteerHeaders,
        response: { 200: Run, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      const run = await writeOnce(writes, request, reply, {
        prepare: async () => await planResize(planner, await runs.get(runId), request.body.gpus),
        write: async (tx, resize) => {
          const ifMatch = request.headers["if-match"];
          const resized = await resizeRun(tx, { runId, resize, actor: callerOf(request).id, ifMatch });
          return { answer: resized.run, object: resized.isChanged ? runId : null };
        },
      });
      outbox.kick();
      feed.notify(runId);
      return await reply.header("etag", run.etag).send(run);
    },
  );

  for (const { action, summary } of actions)
    app.post(
      `/runs/:runId/${action}`,
      {
        schema: {
          operationId: `${action}Run`,
          summary,
          tags: ["runs"],
          params: RunParams,
          body: z.strictObject({}).nullish(),
          headers: SteerHeaders,
          response: {
            200: Run,
            ...problems(404, 409, 412, 415, 422),
          },
        },
      },
      async (request, reply) => {
        const { runId } = request.params;
        const run = await writeOnce(writes, request, reply, {
          prepare: async () => null,
          write: async (tx) => {
            const { run: answer, isChanged } = await steerRun(tx, {
              runId,
              action,
              actor: callerOf(request).id,
              ifMatch: request.headers["if-match"],
            });
            return { answer, object: isChanged ? runId : null };
          },
        });
        outbox.kick();
        feed.notify(runId);
        return await reply.header("etag", run.etag).send(run);
      },
    );
};
