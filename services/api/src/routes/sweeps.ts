import {
  PageQuery,
  ParallelCoordinates,
  Sweep,
  SweepChange,
  SweepSpec,
  SweepTrial,
  pageOf,
  type SweepState,
} from "@drydock/spec";
import { ConflictError } from "@drydock/kit";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { pageFrom } from "../pages.ts";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { refuseOver, SweepStore, type SweepRow } from "../store/sweep-store.ts";
import { prepareSweep, submitSweep } from "../sweeps/submit-sweep.ts";
import { goalOf, lossStepsOf, parallelCoordinates, toSweep, toTrial } from "../sweeps/sweep-views.ts";
import { leaderboard } from "../sweeps/leaderboard.ts";
import { writeOnce } from "../writes.ts";

export const SweepParams = z.object({ sweepId: z.string().max(64) });

const ChangeHeaders = z.object({
  "if-match": z.string().max(200).optional().meta({ description: "ETag of the sweep as you know it" }),
});

interface Steering {
  readonly action: "pause" | "resume" | "cancel";
  readonly summary: string;
  readonly to: SweepState;
  readonly message: string;
}

const steerings: readonly Steering[] = [
  {
    action: "pause",
    summary: "Pause the trials that run, after a checkpoint, and start no others",
    to: "paused",
    message: "paused: trials that ran are paused after a checkpoint, and none is started",
  },
  { action: "resume", summary: "Go on with the trials that were paused", to: "running", message: "going on" },
  {
    action: "cancel",
    summary: "End a sweep and its trials; their checkpoints are kept",
    to: "cancelling",
    message: "cancelling: trials stop after their step",
  },
];

/** `/v1/sweeps`: many runs that differ in some settings, and the best of them. */
export const sweepRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { sweeps, writes, outbox } = services;

  const view = async (row: SweepRow): Promise<Sweep> =>
    toSweep(row, await sweeps.trials(row.id, lossStepsOf(row.spec)));
  const trialsOf = async ({ id, spec }: SweepRow): Promise<SweepTrial[]> => {
    const { metric, goal } = goalOf(spec);
    return leaderboard(
      (await sweeps.trials(id, lossStepsOf(spec))).map((record) => toTrial(record, metric)),
      goal,
    );
  };

  app.post(
    "/sweeps",
    {
      schema: {
        operationId: "createSweep",
        summary: "Try settings of a run: grid, random or successive halving",
        description:
          "Refused with 422 when the space is empty or does not fit the run spec, when nothing is evaluated by its metric, or when the plan of its first trial has refusals.",
        tags: ["sweeps"],
        body: SweepSpec,
        response: { 201: Sweep, ...problems(404, 409, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const sweep = await writeOnce(writes, request, reply, {
        prepare: async () => await prepareSweep(services, request.body),
        write: async (tx, spec) => {
          const row = await submitSweep(tx, { spec, parent: null });
          return { answer: toSweep(row, []), object: row.id };
        },
      });
      outbox.kick();
      return await reply.code(201).header("location", `/v1/sweeps/${sweep.id}`).header("etag", sweep.etag).send(sweep);
    },
  );

  app.get(
    "/sweeps",
    {
      schema: {
        operationId: "listSweeps",
        summary: "List sweeps, newest first",
        tags: ["sweeps"],
        querystring: PageQuery,
        response: { 200: pageOf(Sweep), ...problems() },
      },
    },
    async (request) => {
      const { items, nextCursor } = pageFrom(
        await sweeps.list(request.query),
        request.query.limit,
        (row) => row,
        ({ id }) => id,
      );
      return { items: await Promise.all(items.map(view)), nextCursor };
    },
  );

  app.get(
    "/sweeps/:sweepId",
    {
      schema: {
        operationId: "getSweep",
        summary: "Read a sweep: its best trial so far, counts, what it has used",
        tags: ["sweeps"],
        params: SweepParams,
        response: { 200: Sweep, ...problems(404) },
      },
    },
    async (request, reply) => {
      const sweep = await view(await sweeps.get(request.params.sweepId));
      return await reply.header("etag", sweep.etag).send(sweep);
    },
  );

  app.get(
    "/sweeps/:sweepId/trials",
    {
      schema: {
        operationId: "listSweepTrials",
        summary: "The leaderboard: every trial with its settings, rungs and score, best first",
        tags: ["sweeps"],
        params: SweepParams,
        response: { 200: z.object({ items: z.array(SweepTrial) }), ...problems(404) },
      },
    },
    async (request) => ({ items: await trialsOf(await sweeps.get(request.params.sweepId)) }),
  );

  app.get(
    "/sweeps/:sweepId/parallel-coordinates",
    {
      schema: {
        operationId: "getSweepParallelCoordinates",
        summary: "Axes and lines of a parallel-coordinates plot, the score last",
        tags: ["sweeps"],
        params: SweepParams,
        response: { 200: ParallelCoordinates, ...problems(404) },
      },
    },
    async (request) => {
      const row = await sweeps.get(request.params.sweepId);
      return parallelCoordinates(row.spec, goalOf(row.spec).metric, await trialsOf(row));
    },
  );

  app.patch(
    "/sweeps/:sweepId",
    {
      schema: {
        operationId: "changeSweep",
        summary: "Change how many trials run side by side",
        description: "With fewer, trials that run go on; no other starts until there is room.",
        tags: ["sweeps"],
        params: SweepParams,
        headers: ChangeHeaders,
        body: SweepChange,
        response: { 200: Sweep, ...problems(404, 409, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const { sweepId } = request.params;
      await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new SweepStore(tx);
          const row = await store.lockUnchanged(sweepId, request.headers["if-match"]);
          refuseOver(row);
          await store.change(row, request.body);
          return { answer: null, object: sweepId };
        },
      });
      const sweep = await view(await sweeps.get(sweepId));
      return await reply.header("etag", sweep.etag).send(sweep);
    },
  );

  for (const { action, summary, to, message } of steerings)
    app.post(
      `/sweeps/:sweepId/${action}`,
      {
        schema: {
          operationId: `${action}Sweep`,
          summary,
          tags: ["sweeps"],
          params: SweepParams,
          headers: ChangeHeaders,
          body: z.strictObject({}).nullish(),
          response: { 200: Sweep, ...problems(404, 409, 412, 415, 422) },
        },
      },
      async (request, reply) => {
        const { sweepId } = request.params;
        await writeOnce(writes, request, reply, {
          prepare: async () => null,
          write: async (tx) => {
            const store = new SweepStore(tx);
            const row = await store.lockUnchanged(sweepId, request.headers["if-match"]);
            const isChanged = isSteered(row, to);
            if (isChanged) await store.change(row, { state: to, message });
            return { answer: null, object: isChanged ? sweepId : null };
          },
        });
        const sweep = await view(await sweeps.get(sweepId));
        return await reply.header("etag", sweep.etag).send(sweep);
      },
    );
};

/** Whether a sweep is to change its state. @throws ConflictError `sweep_is_over`, `sweep_is_cancelling` */
function isSteered(row: SweepRow, to: SweepState): boolean {
  if (row.state === to || (row.state === "cancelled" && to === "cancelling")) return false;
  refuseOver(row);
  if (row.state === "cancelling")
    throw new ConflictError("sweep_is_cancelling", `sweep ${row.id} is being cancelled: submit a new one`);
  return true;
}
