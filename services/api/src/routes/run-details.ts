import { Checkpoint, Evaluation, PageQuery, RunEvent, StepMetric, pageOf } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { decodeNumberCursor } from "../pages.ts";
import { problems } from "../problem-responses.ts";
import { followLog, readLog } from "../runs/run-log.ts";
import { followSequence } from "../runs/follow-run.ts";
import { isTerminal } from "../runs/run-state-machine.ts";
import { eventStream, lastEventId, streamSchema, wantsEventStream } from "../server-sent-events.ts";
import type { Services } from "../services.ts";
import { RunParams } from "./runs.ts";

const streamNote =
  "With `Accept: text/event-stream` the same as a live stream, ended by an event named `end` when the run is over; `Last-Event-ID` goes on after an event.";

/** A page as JSON, or the live stream. */
function listOrStream<Item extends z.ZodType>(item: Item) {
  return {
    description: "A page, or a stream",
    content: { "application/json": { schema: pageOf(item) }, "text/event-stream": { schema: streamSchema } },
  } as const;
}

const LogQuery = z.strictObject({
  attempt: z.coerce.number().int().positive().optional().meta({ description: "Default: the last one" }),
  tail: z.coerce.number().int().min(0).max(10_000).default(200).meta({ description: "Lines from the end" }),
  follow: z.stringbool().default(true).meta({ description: "For a stream: go on until the run is over" }),
});

const Log = z.object({ attempt: z.int(), lines: z.array(z.string()), sizeBytes: z.int() }).meta({ id: "RunLog" });

/** What runs leave behind while they go: `/events`, `/metrics`, `/checkpoints`, `/evaluations`, `/logs`. */
export const runDetailRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { reports, runs, evaluations, closing } = services;
  const isOver = (runId: string) => async (): Promise<boolean> => isTerminal(await runs.stateOf(runId));

  app.get(
    "/runs/:runId/events",
    {
      schema: {
        operationId: "listRunEvents",
        summary: "What happened to a run, in order",
        description: streamNote,
        tags: ["runs"],
        params: RunParams,
        querystring: PageQuery,
        response: {
          200: listOrStream(RunEvent),
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      await reports.requireRun(runId);
      if (!wantsEventStream(request)) return await reply.send(await reports.events(runId, request.query));
      const after = lastEventId(request, decodeNumberCursor(request.query.cursor));
      const read = async (sequence: number, limit: number) => await reports.eventsAfter(runId, sequence, limit);
      return await reply.send(
        eventStream(
          reply,
          closing,
          followSequence(services, { runId, isOver: isOver(runId), after, read, nameOf: (event) => event.type }),
        ),
      );
    },
  );

  app.get(
    "/runs/:runId/metrics",
    {
      schema: {
        operationId: "listRunMetrics",
        summary: "What each step measured",
        description: streamNote,
        tags: ["runs"],
        params: RunParams,
        querystring: PageQuery.extend({ limit: z.coerce.number().int().min(1).max(1e4).default(1e3) }),
        response: {
          200: listOrStream(StepMetric),
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      await reports.requireRun(runId);
      if (!wantsEventStream(request)) return await reply.send(await reports.metrics(runId, request.query));
      const after = lastEventId(request, decodeNumberCursor(request.query.cursor));
      const read = async (sequence: number, limit: number) => await reports.metricsAfter(runId, sequence, limit);
      return await reply.send(
        eventStream(
          reply,
          closing,
          followSequence(services, { runId, isOver: isOver(runId), after, read, nameOf: () => "step.finished" }),
        ),
      );
    },
  );

  app.get(
    "/runs/:runId/checkpoints",
    {
      schema: {
        operationId: "listCheckpoints",
        summary: "Checkpoints by step",
        tags: ["runs"],
        params: RunParams,
        querystring: PageQuery,
        response: { 200: pageOf(Checkpoint), ...problems(404) },
      },
    },
    async (request) => {
      await reports.requireRun(request.params.runId);
      return await reports.checkpoints(request.params.runId, request.query);
    },
  );

  app.get(
    "/runs/:runId/evaluations",
    {
      schema: {
        operationId: "listRunEvaluations",
        summary: "Evaluations of a run, newest first",
        tags: ["runs"],
        params: RunParams,
        querystring: PageQuery,
        response: { 200: pageOf(Evaluation), ...problems(404) },
      },
    },
    async (request) => {
      await reports.requireRun(request.params.runId);
      return await evaluations.list({ ...request.query, runId: request.params.runId });
    },
  );

  app.get(
    "/runs/:runId/logs",
    {
      schema: {
        operationId: "getRunLogs",
        summary: "What the worker of an attempt wrote",
        tags: ["runs"],
        params: RunParams,
        querystring: LogQuery,
        description:
          "The last lines as JSON; with `Accept: text/event-stream` one event a line, new ones as they come. The id of an event is the place in the log after its line.",
        response: {
          200: {
            description: "Lines, or a stream",
            content: {
              "application/json": { schema: Log },
              "text/event-stream": { schema: streamSchema },
            },
          },
          ...problems(404),
        },
      },
    },
    async (request, reply) => {
      const { runId } = request.params;
      const { tail, follow } = request.query;
      const run = await runs.get(runId);
      const attempt = request.query.attempt ?? Math.max(1, ...run.attempts.map(({ epoch }) => epoch));
      if (!wantsEventStream(request))
        return await reply.send(await readLog(services.storage, { runId, attempt, tail }));
      const after = request.headers["last-event-id"] === undefined ? null : lastEventId(request, 0);
      return await reply.send(
        eventStream(reply, closing, followLog(services, { runId, attempt, tail, after, follow })),
      );
    },
  );
};
