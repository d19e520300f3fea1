import { sha256 } from "@drydock/kit";
import {
  explainWait,
  forecastWaits,
  plannedWait,
  queueNotes,
  type ClusterReport,
  type ForecastInput,
  type OpenWork,
  type Plan,
  type Range,
  type Run,
  type RunSpec,
  type RunWaiting,
} from "@drydock/spec";
import type { z } from "zod";
import type { ClusterStore, OpenRunRow } from "../store/cluster-store.ts";
import { isWaiting, workOf, workOfPlan } from "./open-work.ts";

/** What the controller said is believed for so long; it repeats itself more often. */
const reportLifeMs = 120_000;
const leastLifeMs = 1_000;
/** Forecasts take at most this share of the processor: one that took long is kept for longer. */
const busyShare = 0.1;

/** Who waits and who runs, and for how long, at one moment. */
export interface QueueForecast {
  readonly cluster: ClusterReport | null;
  readonly reportedAt: Date | null;
  readonly input: ForecastInput;
  readonly rows: ReadonlyMap<string, OpenRunRow>;
  readonly works: ReadonlyMap<string, OpenWork>;
  /** By run, in the order of admission. */
  readonly waiting: ReadonlyMap<string, RunWaiting>;
}

/** Forecasts of all queues, made at most once a second and shared by all requests. */
export class QueueForecasts {
  readonly #store: ClusterStore;
  readonly #now: () => Date;
  #current: Promise<QueueForecast> | null = null;
  #validUntilMs = 0;

  constructor(store: ClusterStore, now: () => Date = () => new Date()) {
    this.#store = store;
    this.#now = now;
  }

  async current(): Promise<QueueForecast> {
    if (this.#current !== null && performance.now() < this.#validUntilMs) return await this.#current;
    this.#validUntilMs = Infinity;
    const startedMs = performance.now();
    const made = this.#make();
    this.#current = made;
    const tookMs = (): number => performance.now() - startedMs;
    const keep = (lifeMs: number): void => {
      if (this.#current === made) this.#validUntilMs = performance.now() + lifeMs;
    };
    made.then(
      () => keep(Math.max(leastLifeMs, tookMs() / busyShare)),
      () => keep(0),
    );
    return await made;
  }

  /** The next reader gets a new forecast. */
  forget(): void {
    this.#current = null;
  }

  /** The run with why it waits. One that came to wait since the last forecast gets a new one. */
  async explain(run: Run): Promise<Run> {
    let { waiting } = await this.current();
    if (run.state === "queued" && !waiting.has(run.id)) {
      this.forget();
      ({ waiting } = await this.current());
    }
    return withWaiting(run, waiting.get(run.id) ?? null);
  }

  /** What the queue of a plan's run would make of it if it were submitted now. */
  async queueOfPlan(plan: Plan, spec: RunSpec): Promise<Pick<Plan, "queueWait" | "warnings" | "refusals">> {
    const { input, cluster } = await this.current();
    const work = workOfPlan(plan, spec, cluster);
    if (work === null) return { queueWait: plan.queueWait, warnings: [], refusals: [] };
    return { queueWait: plannedWait(work, input), ...queueNotes(work, input.cluster) };
  }

  async #make(): Promise<QueueForecast> {
    const now = this.#now();
    const [stored, rows, paces, since] = await Promise.all([
      this.#store.report(),
      this.#store.openRuns(),
      this.#store.paces(),
      this.#store.waitingSince(),
    ]);
    const isCurrent = stored !== null && now.getTime() - stored.receivedAt.getTime() < reportLifeMs;
    const cluster = isCurrent ? stored.report : null;
    const works = new Map<string, OpenWork>();
    for (const row of rows) {
      const work = workOf(row, paces.get(row.id) ?? null, cluster, now);
      if (work !== null) works.set(row.id, work);
    }
    const worksOf = (waits: boolean): OpenWork[] =>
      rows.filter((row) => isWaiting(row) === waits).flatMap(({ id }) => works.get(id) ?? []);
    const input: ForecastInput = {
      cluster,
      running: worksOf(false),
      waiting: worksOf(true),
      ...(stored === null || isCurrent
        ? {}
        : { whyUnknown: `no controller has said since ${stored.receivedAt.toISOString()} what the cluster has` }),
    };
    const clusterSays = new Map(rows.flatMap(clusterWords));
    const waiting = new Map<string, RunWaiting>();
    for (const [runId, forecast] of forecastWaits(input)) {
      const work = works.get(runId)!;
      waiting.set(runId, {
        since: (since.get(runId) ?? now).toISOString(),
        sentence: `${explainWait(work, forecast, cluster, now)}${clusterSays.get(runId) ?? ""}`,
        ahead: forecast.ahead.map(({ runId: id, name, priority }) => ({ runId: id, name, priority })),
        aheadTotal: forecast.aheadTotal,
        estimate: { startsAt: startsAt(forecast.seconds, now), basis: forecast.basis },
      });
    }
    return {
      cluster: stored?.report ?? null,
      reportedAt: stored?.receivedAt ?? null,
      input,
      works,
      waiting,
      rows: new Map(rows.map((row) => [row.id, row])),
    };
  }
}

/** What the cluster itself says of a run whose pods it holds back. */
function clusterWords({ id, state, reason, message }: OpenRunRow): [string, string][] {
  const isHeld = state === "scheduling" && reason === "waiting-in-queue" && message !== "";
  return isHeld ? [[id, `; the cluster says: it ${message}`]] : [];
}

/** Times to the minute: nothing here is known better. */
function startsAt(seconds: z.infer<typeof Range> | null, now: Date): RunWaiting["estimate"]["startsAt"] {
  if (seconds === null) return null;
  const at = (afterSeconds: number, round: (value: number) => number): string =>
    new Date(round((now.getTime() + afterSeconds * 1000) / 60_000) * 60_000).toISOString();
  return {
    earliest: at(seconds.low, Math.floor),
    expected: at(seconds.expected, Math.round),
    latest: at(seconds.high, Math.ceil),
  };
}

/**
 * An answer about a run with why it waits. What is said of that changes while the run's own row does not, so it is part of
 * the ETag, behind what `If-Match` looks at.
 */
export function withWaiting<Answer extends Pick<Run, "etag" | "waiting" | "state">>(
  answer: Answer,
  waiting: RunWaiting | null,
): Answer {
  // The forecast may be a moment older than the run.
  if (waiting === null || (answer.state !== "queued" && answer.state !== "scheduling")) return answer;
  const digest = sha256(JSON.stringify(waiting)).slice(0, 12);
  return { ...answer, waiting, etag: `${answer.etag.slice(0, -1)}.${digest}"` };
}
