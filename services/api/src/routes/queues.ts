import { Name, RunReason, RunState } from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";

const Queue = z
  .object({
    name: z.string(),
    depth: z.int().meta({ description: "Runs that are not over" }),
    byState: z.record(z.string(), z.int()),
  })
  .meta({ id: "Queue" });

const WaitingRun = z
  .object({ id: z.string(), name: z.string(), state: RunState, reason: RunReason, message: z.string() })
  .meta({ id: "WaitingRun" });

/** `/v1/queues`: what waits, and why. */
export const queueRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { runs } = services;

  app.get(
    "/queues",
    {
      schema: {
        operationId: "listQueues",
        summary: "Queues and how many runs they hold, by state",
        tags: ["queues"],
        response: { 200: z.object({ items: z.array(Queue) }), ...problems() },
      },
    },
    async () => {
      const queues = new Map<string, { name: string; depth: number; byState: Record<string, number> }>([
        ["default", { name: "default", depth: 0, byState: {} }],
      ]);
      for (const { queue, state, runs: number } of await runs.depths()) {
        const entry = queues.get(queue) ?? { name: queue, depth: 0, byState: {} };
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
        summary: "Runs of a queue that wait, oldest first, each with the reason",
        tags: ["queues"],
        params: z.object({ queue: Name }),
        response: { 200: z.object({ items: z.array(WaitingRun) }), ...problems() },
      },
    },
    async (request) => ({ items: await runs.waiting(request.params.queue, 200) }),
  );
};
