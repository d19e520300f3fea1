import type { ClusterNode, Queue, QueueQuota } from "@drydock/spec";
import type { Command } from "commander";
import { formatDuration } from "../output/quantities.ts";
import { table } from "../output/table.ts";
import { contextOf } from "./context.ts";
import { everyPage } from "./pages.ts";

/** `drydock queue list`, `drydock node list`: what runs, what waits and why, and where there is room. */
export function addClusterCommands(program: Command): void {
  program
    .command("queue")
    .description("queues: what runs, what waits and why")
    .command("list")
    .description("each queue with its quotas, the runs that run, and those that wait in the order in which they start")
    .action(async function (this: Command) {
      const { client, output } = contextOf(this);
      const queues = await client().listQueues();
      output.answer(queues, () => queues.flatMap(describeQueue).slice(0, -1));
    });

  program
    .command("node")
    .description("nodes: accelerators, and what is free of them")
    .command("list")
    .option("--accelerator <name>", "only nodes with this one")
    .description("nodes with their GPUs (worker slots, on a computer without), and why nothing is started on one")
    .action(async function (this: Command, { accelerator }: { accelerator?: string }) {
      const { client, output } = contextOf(this);
      const [nodes, capacity] = await Promise.all([
        everyPage((query) => client().listNodes({ ...query, accelerator })),
        client().listCapacity(),
      ]);
      output.answer({ nodes, capacity }, () => [
        ...table(["node", "accelerator", "free", "gpus", "others", "rack", "block", "state"], nodes.map(nodeRow)),
        "",
        ...table(
          ["accelerator", "nodes", "usable", "gpus", "free", "on one node", "held by others", "runs waiting"],
          capacity.map((item) => [
            item.accelerator,
            item.nodes,
            item.usableNodes,
            item.gpus.total,
            item.gpus.free,
            item.gpus.freeOnOneNode,
            item.gpus.heldByOthers,
            item.waiting.runs,
          ]),
        ),
      ]);
    });
}

function nodeRow(node: ClusterNode): (string | number | null)[] {
  const { name, accelerator, gpus, heldByOthers, rack, block, unusable } = node;
  return [name, accelerator, gpus.free, gpus.total, heldByOthers, rack, block, unusable ?? "ready"];
}

function describeQueue(queue: Queue): string[] {
  const quotas = queue.quotas.map(describeQuota);
  const states = Object.entries(queue.byState).map(([state, runs]) => `${runs} ${state}`);
  const rows = [
    ...queue.running.map(({ runId, name, priority, state, gpus, accelerator, secondsLeft, basis }) => [
      null,
      runId,
      name,
      priority,
      state,
      gpusOf(gpus, accelerator),
      secondsLeft === null ? basis : `about ${formatDuration(secondsLeft.expected)} left, ${basis}`,
    ]),
    ...queue.waiting.map(({ position, runId, name, priority, state, gpus, accelerator, waiting }) => [
      position,
      runId,
      name,
      priority,
      state,
      gpusOf(gpus, accelerator),
      waiting.sentence,
    ]),
  ];
  return [
    `queue ${queue.name}: ${[queue.stopped, ...quotas, describeClusterQueue(queue.clusterQueue), ...states].filter((part) => part !== null).join("; ") || "empty"}`,
    ...(rows.length === 0
      ? []
      : table(["place", "run", "name", "priority", "state", "gpus", "time left, or why it waits"], rows)),
    "",
  ];
}

function describeQuota({ accelerator, used, gpus, mayBorrow, borrowed }: QueueQuota): string {
  const more = mayBorrow === 0 ? "" : mayBorrow === null ? ", borrows what is free" : `, may borrow ${mayBorrow}`;
  return `${used} of ${gpus} ${accelerator} used${more}${borrowed === 0 ? "" : ` (${borrowed} borrowed)`}`;
}

function describeClusterQueue(clusterQueue: Queue["clusterQueue"]): string | null {
  if (clusterQueue === null) return null;
  const { name, cohort, pendingWorkloads, admittedWorkloads, fairShareWeight, weightedShare } = clusterQueue;
  const share = weightedShare === null ? "" : `, fair share ${weightedShare} at weight ${fairShareWeight}`;
  const lends = cohort === null ? "" : ` in cohort ${cohort}`;
  return `ClusterQueue ${name}${lends}: ${admittedWorkloads} admitted, ${pendingWorkloads} pending${share}`;
}

function gpusOf(gpus: number, accelerator: string | null): string {
  return accelerator === "cpu" ? `${gpus} × worker slot` : `${gpus} × ${accelerator ?? "?"}`;
}
