import { Name, Priority, Queue, RunReason, RunState } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { QueueForecast } from "../scheduling/queue-forecasts.ts";
import type { Services } from "../services.ts";

/** As many runs of a queue are shown. */
const shownRuns = 100;

const WaitingRun = z
  .object({
    id: z.string(),
    name: z.string(),
    state: RunState,
    reason: RunReason,
    message: z.string(),
    priority: Priority,
  })
  .meta({ id: "WaitingRun" });

/** `/v1/queues`: what runs, what waits, and why. */
export const queueRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { runs, forecasts } = services;

  app.get(
    "/queues",
    {
      schema: {
        operationId: "listQueues",
        summary: "Queues: quotas, what runs, what waits in which order and why, and when it is expected to start",
        tags: ["queues"],
        response: { 200: z.object({ items: z.array(Queue) }), ...problems() },
      },
    },
    async () => {
      const forecast = await forecasts.current();
      const queues = new Map<string, Queue>();
      for (const name of ["default", ...(forecast.input.cluster?.queues.map((queue) => queue.name) ?? [])])
        queues.set(name, queueOf(name, forecast));
      for (const { queue, state, runs: number } of await runs.depths()) {
        const entry = queues.get(queue) ?? queueOf(queue, forecast);
        entry.depth += number;
        entry.byState[state] = number;
        queues.set(queue, entry);
      }
      return { items: [...queues.values()] };
    },
  );

  app.get(
    "/queues/:queue/waiting",
    {
      schema: {
        operationId: "listWaitingRuns",
        summary: "Runs of a queue that do not run yet or are paused, oldest first, each with the reason",
        tags: ["queues"],
        params: z.object({ queue: Name }),
        response: { 200: z.object({ items: z.array(WaitingRun) }), ...problems() },
      },
    },
    async (request) => ({ items: await runs.waiting(request.params.queue, 200) }),
  );
};

function queueOf(name: string, { input, works, rows, waiting }: QueueForecast): Queue {
  const facts = input.cluster?.queues.find((queue) => queue.name === name);
  const describe = (runId: string) => {
    const { state, reason } = rows.get(runId)!;
    const { name: runName, priority, accelerator, pods, gpusPerPod } = works.get(runId)!;
    return { runId, name: runName, priority, state, reason, accelerator, gpus: pods * gpusPerPod };
  };
  const isHere = (runId: string): boolean => works.get(runId)?.queue === name;
  return {
    name,
    depth: 0,
    byState: {},
    quotas: facts?.quotas ?? [],
    stopped: facts === undefined ? (input.cluster?.unlistedQueues ?? null) : facts.stopped,
    clusterQueue: facts?.clusterQueue ?? null,
    running: input.running
      .filter(({ runId }) => isHere(runId))
      .slice(0, shownRuns)
      .map(({ runId, left }) => ({ ...describe(runId), secondsLeft: left.seconds, basis: left.basis })),
    waiting: [...waiting]
      .filter(([runId]) => isHere(runId))
      .slice(0, shownRuns)
      .map(([runId, why], index) => ({ ...describe(runId), position: index + 1, waiting: why })),
  };
}
