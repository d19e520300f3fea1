import { findAccelerator } from "../accelerators/accelerators.ts";
import type { ClusterNode, ClusterReport, QueueFacts } from "../contract/cluster.ts";
import type { Plan, PlanNote } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import { formatSeconds, plural } from "./format.ts";
import type { SecondsRange, TimeLeft } from "./pace.ts";
import { fitsOnEmptyNodes, quotaLimit, simulateStarts, type Demand, type SimulatedStart } from "./queue-simulation.ts";

/** A run that is not over, as the forecast needs it. Ids sort by age. */
export interface OpenWork extends Demand {
  readonly name: string;
  readonly priority: RunSpec["priority"];
  readonly left: TimeLeft;
}

export interface ForecastInput {
  /** Null until a controller has said what there is. */
  readonly cluster: (Pick<ClusterReport, "nodes" | "queues"> & Partial<Pick<ClusterReport, "unlistedQueues">>) | null;
  /** Why there is no cluster to look at, when there is none. */
  readonly whyUnknown?: string;
  readonly running: readonly OpenWork[];
  readonly waiting: readonly OpenWork[];
}

/** When a run that waits starts, from now, and what that follows from. */
export interface WaitForecast {
  /** Null when it cannot be said. */
  readonly seconds: SecondsRange | null;
  readonly basis: string;
  /** Runs of the same queue that start before it, the next one first; at most {@link shownAhead}. */
  readonly ahead: readonly OpenWork[];
  readonly aheadTotal: number;
  /** Runs of other queues that want the same accelerator and start before it. */
  readonly aheadElsewhere: number;
}

/** More runs than this are not simulated: nobody can say so far ahead. */
export const simulatedRuns = 1000;
/** As many of the runs ahead are named. */
export const shownAhead = 100;

const priorityRanks = { high: 0, normal: 1, low: 2 } as const;

/** By priority, then age; where the cluster says in which order a queue admits, in that order. */
export function admissionOrder(waiting: readonly OpenWork[], queues: readonly QueueFacts[]): OpenWork[] {
  const sorted = waiting.toSorted(
    (a, b) => priorityRanks[a.priority] - priorityRanks[b.priority] || (a.runId < b.runId ? -1 : 1),
  );
  for (const { name, order } of queues) {
    const places = new Map(order.map((runId, index) => [runId, index]));
    const placeOf = (work: OpenWork): number => places.get(work.runId) ?? order.length;
    const ordered = sorted.filter(({ queue }) => queue === name).toSorted((a, b) => placeOf(a) - placeOf(b));
    let next = 0;
    for (const [index, work] of sorted.entries()) if (work.queue === name) sorted[index] = ordered[next++]!;
  }
  return sorted;
}

/**
 * When each waiting run starts: the cluster is played forward three times, with every run as short, as long and as late
 * as its range says. The same inputs give the same answer; nothing is read from a clock.
 */
export function forecastWaits({ cluster, running, waiting, whyUnknown }: ForecastInput): Map<string, WaitForecast> {
  const queues = cluster?.queues ?? [];
  const order = admissionOrder(waiting, queues);
  const simulated = order.slice(0, simulatedRuns);
  const works = new Map([...running, ...waiting].map((work) => [work.runId, work]));
  const play = (edge: keyof SecondsRange): Map<string, SimulatedStart> => {
    const timed = (work: OpenWork) => ({ ...work, seconds: work.left.seconds?.[edge] ?? Infinity });
    const hopeful = simulated.filter((work) => cluster !== null && neverFits(cluster, work) === null);
    return simulateStarts(cluster?.nodes ?? [], queues, running.map(timed), hopeful.map(timed));
  };
  const [low, expected, high] = [play("low"), play("expected"), play("high")];
  const forecasts = new Map<string, WaitForecast>();
  const byQueue = new Map<string, OpenWork[]>();
  const byAccelerator = new Map<string, number>();
  const byBoth = new Map<string, number>();
  for (const work of order) {
    const before = byQueue.get(work.queue) ?? [];
    const both = `${work.queue} ${work.accelerator}`;
    const starts = [low, expected, high].map((played) => played.get(work.runId));
    forecasts.set(work.runId, {
      ahead: before.slice(0, shownAhead),
      aheadTotal: before.length,
      aheadElsewhere: (byAccelerator.get(work.accelerator) ?? 0) - (byBoth.get(both) ?? 0),
      ...(cluster === null
        ? { seconds: null, basis: whyUnknown ?? "no controller has said yet what the cluster has" }
        : startOf(cluster, work, starts, works)),
    });
    byQueue.set(work.queue, before);
    before.push(work);
    byAccelerator.set(work.accelerator, (byAccelerator.get(work.accelerator) ?? 0) + 1);
    byBoth.set(both, (byBoth.get(both) ?? 0) + 1);
  }
  return forecasts;
}

type Start = Pick<WaitForecast, "seconds" | "basis">;

function startOf(
  cluster: NonNullable<ForecastInput["cluster"]>,
  work: OpenWork,
  starts: readonly (SimulatedStart | undefined)[],
  works: ReadonlyMap<string, OpenWork>,
): Start {
  const never = neverFits(cluster, work);
  if (never !== null) return { seconds: null, basis: never };
  const expected = starts[1];
  if (expected === undefined) return { seconds: null, basis: `more than ${simulatedRuns} runs are ahead` };
  const sorted = starts.map((start) => start?.afterSeconds ?? Infinity).toSorted((a, b) => a - b);
  const [low = Infinity, middle = Infinity, high = Infinity] = sorted;
  if (high === Infinity) return { seconds: null, basis: unknownEnd(work, works) };
  const seconds = { low, expected: middle, high };
  const freer = works.get(expected.freedBy ?? "");
  if (freer === undefined)
    return { seconds, basis: `${describeGpus(work)} ${work.pods * work.gpusPerPod === 1 ? "is" : "are"} free now` };
  return { seconds, basis: `run ${freer.name} (${freer.runId}) ends then ${freer.left.basis}` };
}

/** Why the run can never start on this cluster as it is; null when it can. */
function neverFits(cluster: NonNullable<ForecastInput["cluster"]>, work: OpenWork): string | null {
  const { accelerator } = work;
  const byQueue = queueNote(cluster, work);
  if (byQueue !== null) return byQueue.note.message;
  if (fitsOnEmptyNodes(cluster.nodes, work)) return null;
  const nodes = cluster.nodes.filter((node) => node.accelerator === accelerator);
  if (cluster.nodes.every((node) => node.accelerator === null))
    return `no node of the cluster has GPUs: add one with ${titleOf(accelerator)}, or plan the run with resources.accelerator "cpu"`;
  if (nodes.length === 0)
    return `no node has ${titleOf(accelerator)}: add one, or plan the run for another accelerator`;
  const unusable = nodes.filter((node) => node.unusable !== null);
  const why = unusable[0] === undefined ? "" : `; ${unusable[0].name}: ${unusable[0].unusable}`;
  return `the ${plural(nodes.length - unusable.length, "usable node")} with ${titleOf(accelerator)} cannot hold ${describeGpus(work)} even when empty${why}`;
}

/** What the queue of a run makes of it: refused when waiting alone does not mend it. */
interface QueueNote {
  readonly isRefused: boolean;
  readonly note: PlanNote;
}

function queueNote(
  { queues, unlistedQueues }: NonNullable<ForecastInput["cluster"]>,
  work: OpenWork,
): QueueNote | null {
  const { accelerator, queue, pods, gpusPerPod } = work;
  const facts = queues.find(({ name }) => name === queue);
  const noted = (isRefused: boolean, code: string, path: string, message: string): QueueNote => ({
    isRefused,
    note: { code, path, message },
  });
  const nobody = (why: string): string => `queue "${queue}" admits nobody: ${why}`;
  if (facts === undefined && unlistedQueues) return noted(true, "queue_not_there", "queue", nobody(unlistedQueues));
  if (facts && facts.stopped !== null) return noted(false, "queue_stopped", "queue", nobody(facts.stopped));
  const limit = quotaLimit(queues, queue, accelerator);
  if (pods * gpusPerPod <= limit) return null;
  const most = `queue "${queue}" may use ${limit} ${titleOf(accelerator)} at most, borrowed ones included`;
  const remedy = `and the run needs ${pods * gpusPerPod}: raise the quota or resize the run`;
  return noted(true, "quota_never_fits", "resources", `${most}, ${remedy}`);
}

/** What the plan of a run that is not submitted yet must say of its queue: nothing while the cluster is not known. */
export function queueNotes(work: OpenWork, cluster: ForecastInput["cluster"]): Pick<Plan, "warnings" | "refusals"> {
  const found = cluster === null ? null : queueNote(cluster, work);
  return {
    warnings: found === null || found.isRefused ? [] : [found.note],
    refusals: found?.isRefused === true ? [found.note] : [],
  };
}

function unknownEnd(work: OpenWork, works: ReadonlyMap<string, OpenWork>): string {
  const unknown = [...works.values()].find(
    ({ accelerator, left, runId }) => accelerator === work.accelerator && left.seconds === null && runId !== work.runId,
  );
  return unknown === undefined
    ? "the GPUs are held by something else, whose end is not known"
    : `the end of run ${unknown.name} (${unknown.runId}) is not known: ${unknown.left.basis}`;
}

/**
 * Why a run waits, in a sentence.
 * `needs 8 × NVIDIA H100 80 GB on one node; 5 free; 2 runs ahead in queue "default"; likely starts 14:20–15:10 UTC: …`
 */
export function explainWait(
  work: OpenWork,
  forecast: WaitForecast,
  cluster: ForecastInput["cluster"],
  now: Date,
): string {
  const { aheadTotal, aheadElsewhere, seconds, basis } = forecast;
  const elsewhere = aheadElsewhere === 0 ? "" : ` and ${aheadElsewhere} in others`;
  return [
    `needs ${describeGpus(work)}`,
    ...(cluster === null ? [] : [describeFree(work, cluster.nodes)]),
    `${plural(aheadTotal, "run")} ahead in queue "${work.queue}"${elsewhere}`,
    seconds === null ? `when it starts cannot be said: ${basis}` : `${describeStart(seconds, now)}: ${basis}`,
  ].join("; ");
}

/** The wait of a run that is not submitted yet, as its plan shows it. */
export function plannedWait(work: OpenWork, input: ForecastInput): Plan["queueWait"] {
  const forecast = forecastWaits({ ...input, waiting: [...input.waiting, work] }).get(work.runId);
  if (forecast === undefined) return { expectedSeconds: null, seconds: null, basis: "not known" };
  const { seconds, basis, aheadTotal } = forecast;
  const before = aheadTotal === 0 ? "" : `; ${plural(aheadTotal, "run")} ahead in queue "${work.queue}"`;
  if (seconds === null) return { expectedSeconds: null, seconds, basis: `${basis}${before}` };
  const range =
    seconds.high - seconds.low < 1 ? "" : ` (${formatSeconds(seconds.low)} to ${formatSeconds(seconds.high)})`;
  return { expectedSeconds: Math.round(seconds.expected), seconds, basis: `${basis}${range}${before}` };
}

function describeGpus({ accelerator, pods, gpusPerPod }: Demand): string {
  if (accelerator === "cpu")
    return pods * gpusPerPod === 1
      ? "a worker slot on this computer"
      : `${pods * gpusPerPod} worker slots on this computer`;
  const title = titleOf(accelerator);
  if (gpusPerPod === 1) return `${pods} × ${title}`;
  return pods === 1
    ? `${gpusPerPod} × ${title} on one node`
    : `${pods} × ${gpusPerPod} × ${title}, ${gpusPerPod} on one node each`;
}

function describeFree({ accelerator, gpusPerPod }: Demand, nodes: readonly ClusterNode[]): string {
  const usable = nodes.filter((node) => node.accelerator === accelerator && node.unusable === null);
  const free = usable.reduce((sum, { gpus }) => sum + gpus.free, 0);
  const most = Math.max(0, ...usable.map(({ gpus }) => gpus.free));
  return free === most || gpusPerPod === 1 ? `${free} free` : `${free} free, at most ${most} on one node`;
}

function describeStart({ low, high }: SecondsRange, now: Date): string {
  if (high < 60) return "starts within a minute";
  const [from, to] = [clock(low, now), clock(high, now)];
  return from === to ? `likely starts ${from} UTC` : `likely starts ${from}–${to} UTC`;
}

function clock(afterSeconds: number, now: Date): string {
  const text = new Date(now.getTime() + afterSeconds * 1000).toISOString();
  const isToday = text.slice(0, 10) === now.toISOString().slice(0, 10);
  return isToday ? text.slice(11, 16) : `${text.slice(0, 10)} ${text.slice(11, 16)}`;
}

function titleOf(accelerator: string): string {
  return findAccelerator(accelerator)?.title ?? accelerator;
}
