import { ConflictError } from "@drydock/kit";
import { PipelineEvent, PipelineRun, openPipelineRunStates } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { callerOf } from "../authentication.ts";
import { requestCancel } from "../pipelines/fire-trigger.ts";
import { candidateOf } from "../pipelines/steps/promote.ts";
import { problems } from "../problem-responses.ts";
import { rollBack } from "../registry/roll-back.ts";
import { followSequence } from "../runs/follow-run.ts";
import { eventStream, lastEventId, streamSchema, wantsEventStream } from "../server-sent-events.ts";
import type { Services } from "../services.ts";
import { PipelineStore, timelineKey, toPipelineRun } from "../store/pipeline-store.ts";
import { writeOnce } from "../writes.ts";

export const PipelineRunParams = z.object({ id: z.string().max(64) });
const Comment = z.strictObject({ comment: z.string().max(2000).default("") });

/** `/v1/pipeline-runs`: one start of a pipeline, its timeline, and what a person may decide about it. */
export const pipelineRunRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { pipelines, writes, outbox } = services;

  app.get(
    "/pipeline-runs/:id",
    {
      schema: {
        operationId: "getPipelineRun",
        summary: "Read a run of a pipeline: its step, what its steps made, how the gate decided",
        tags: ["pipelines"],
        params: PipelineRunParams,
        response: { 200: PipelineRun, ...problems(404) },
      },
    },
    async (request) => toPipelineRun(await pipelines.getRun(request.params.id)),
  );

  app.get(
    "/pipeline-runs/:id/timeline",
    {
      schema: {
        operationId: "getPipelineRunTimeline",
        summary: "What happened, in order",
        description:
          "With `Accept: text/event-stream` the same as a live stream, ended by an event named `end` when the run is over; `Last-Event-ID` goes on after a line.",
        tags: ["pipelines"],
        params: PipelineRunParams,
        response: {
          200: {
            description: "All lines, or a stream",
            content: {
              "application/json": { schema: z.object({ items: z.array(PipelineEvent) }) },
              "text/event-stream": { schema: streamSchema },
            },
          },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { id } = await pipelines.getRun(request.params.id);
      if (!wantsEventStream(request)) return await reply.send({ items: await pipelines.timeline(id) });
      const lines = followSequence(services, {
        runId: id,
        isOver: async () => !openPipelineRunStates.includes((await pipelines.getRun(id)).state),
        after: lastEventId(request, 0),
        read: async (sequence) => await pipelines.timeline(id, sequence),
        nameOf: ({ type }) => type,
      });
      return await reply.send(eventStream(reply, services.closing, lines));
    },
  );

  for (const [action, decision, summary] of [
    ["approve", "approved", "Let the candidate go on"],
    ["refuse", "refused", "End the run without a promotion"],
  ] as const)
    app.post(
      `/pipeline-runs/:id/${action}`,
      {
        schema: {
          operationId: `${action}PipelineRun`,
          summary,
          tags: ["pipelines"],
          params: PipelineRunParams,
          body: Comment,
          response: { 200: PipelineRun, ...problems(404, 409, 415, 422) },
        },
      },
      async (request, reply) =>
        await writeOnce(writes, request, reply, {
          prepare: async () => null,
          write: async (tx) => {
            const store = new PipelineStore(tx);
            const row = await store.lockRun(request.params.id);
            const actor = callerOf(request).id;
            const { step, state } = toPipelineRun(row);
            if (row.results.approval?.decision === decision) return { answer: toPipelineRun(row), object: null };
            if (state !== "running" || step !== "approve" || row.results.approval)
              throw new ConflictError(
                "nothing_to_approve",
                `run ${row.number} of pipeline ${row.spec.name} does not wait for an approval: it is ${state}${step === null ? "" : ` at step "${step}"`}`,
              );
            const { comment } = request.body;
            const approval = { decision, actor, comment, at: new Date().toISOString() };
            await store.append(row.id, {
              key: timelineKey(row, decision),
              actor,
              step: "approve",
              type: decision,
              message: comment,
            });
            await store.changeRun(row, { results: { ...row.results, approval } });
            return { answer: toPipelineRun(await store.getRun(row.id)), object: row.id };
          },
        }),
    );

  app.post(
    "/pipeline-runs/:id/cancel",
    {
      schema: {
        operationId: "cancelPipelineRun",
        summary: "End a run and what it has started",
        tags: ["pipelines"],
        params: PipelineRunParams,
        body: z.strictObject({}).nullish(),
        response: { 200: PipelineRun, ...problems(404, 409, 415, 422) },
      },
    },
    async (request, reply) => {
      const run = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new PipelineStore(tx);
          const actor = callerOf(request).id;
          const isAsked = await requestCancel(store, request.params.id, actor, `${actor} cancelled it`);
          const row = await store.getRun(request.params.id);
          if (!isAsked && row.state !== "cancelling" && row.state !== "cancelled")
            throw new ConflictError(
              "pipeline_run_is_over",
              `run ${row.number} of pipeline ${row.spec.name} has ${row.state} already`,
            );
          return { answer: toPipelineRun(row), object: isAsked ? row.id : null };
        },
      });
      outbox.kick();
      return run;
    },
  );

  app.post(
    "/pipeline-runs/:id/rollback",
    {
      schema: {
        operationId: "rollBackPipelineRun",
        summary: "Put the version into production again that was there before this run's",
        tags: ["pipelines"],
        params: PipelineRunParams,
        body: Comment,
        response: { 200: PipelineRun, ...problems(404, 409, 415, 422) },
      },
    },
    async (request, reply) =>
      await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new PipelineStore(tx);
          const row = await store.lockRun(request.params.id);
          if (row.results.promoted !== true)
            throw new ConflictError(
              "nothing_promoted",
              `run ${row.number} of pipeline ${row.spec.name} has promoted nothing: there is nothing to roll back`,
            );
          const { name, version } = candidateOf(row.results.candidate);
          const actor = callerOf(request).id;
          const why =
            request.body.comment === ""
              ? `run ${row.number} of pipeline ${row.spec.name} was rolled back`
              : request.body.comment;
          const result = await rollBack(tx, { name, from: version, actor, key: `${row.id}/rollback`, message: why });
          await store.append(row.id, {
            key: "rolled-back",
            actor,
            step: null,
            type: "rolled-back",
            message: `${name}@${result.version} is in production again: ${why}`,
          });
          const said = `rolled back to ${name}@${result.version}`;
          // What it still watched is not in production any more.
          const isOpen = row.state === "running";
          if (isOpen) await store.append(row.id, { key: "ended", actor, step: null, type: "ended", message: said });
          await store.changeRun(row, { message: said, ...(isOpen ? { state: "rolled-back" } : {}) });
          return { answer: toPipelineRun(await store.getRun(row.id)), object: row.id };
        },
      }),
  );
};
