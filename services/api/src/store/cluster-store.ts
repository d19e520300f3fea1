import type { ClusterReport } from "@drydock/spec";
import { and, eq, inArray, ne, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { attempts, clusterReports, runEvents, runs, stepMetrics } from "./schema.ts";

const onlyRow = "cluster";
/** A pace is measured over so many of the last steps. */
const paceSteps = 120;
const openStates = ["queued", "scheduling", "running", "evaluating", "pausing"] as const;

/** The report of the cluster that came last. */
export interface StoredReport {
  readonly report: ClusterReport;
  readonly receivedAt: Date;
}

/** A run that waits or runs, as far as a forecast needs it. */
export type OpenRunRow = Awaited<ReturnType<ClusterStore["openRuns"]>>[number];

/** What is known for forecasts: the cluster as the controller told it, open runs, and how fast they go. */
export class ClusterStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async putReport(report: ClusterReport, receivedAt: Date): Promise<void> {
    await this.#database
      .insert(clusterReports)
      .values({ id: onlyRow, report, receivedAt })
      .onConflictDoUpdate({ target: clusterReports.id, set: { report, receivedAt } });
  }

  async report(): Promise<StoredReport | null> {
    const [row] = await this.#database.select().from(clusterReports).where(eq(clusterReports.id, onlyRow));
    return row ?? null;
  }

  /** Runs that wait for room or hold some, oldest first. */
  async openRuns() {
    return await this.#database
      .select({
        id: runs.id,
        name: runs.name,
        queue: runs.queue,
        state: runs.state,
        reason: runs.reason,
        message: runs.message,
        progress: runs.progress,
        startedAt: runs.startedAt,
        createdAt: runs.createdAt,
        priority: sql<"low" | "normal" | "high">`${runs.spec}->>'priority'`,
        accelerator: sql<string | null>`${runs.plan}->'accelerator'->>'name'`,
        pods: sql<number | null>`(${runs.plan}->'layout'->>'pods')::int`,
        gpusPerPod: sql<number | null>`(${runs.plan}->'layout'->>'gpusPerPod')::int`,
        planned: sql<{
          low: number;
          expected: number;
          high: number;
          basis: string;
        } | null>`${runs.plan}->'timeSeconds'`,
      })
      .from(runs)
      .where(inArray(runs.state, [...openStates]))
      .orderBy(runs.id);
  }

  /** Mean and deviation of the last steps of the newest attempt of each run that runs. */
  async paces(): Promise<Map<string, { steps: number; meanSeconds: number; deviationSeconds: number }>> {
    const newest = sql`(select max(${attempts.epoch}) from ${attempts} where ${attempts.runId} = ${runs.id})`;
    const rows = await this.#database
      .select({
        runId: runs.id,
        steps: sql<number>`count(*)::int`,
        meanSeconds: sql<number>`avg(${stepMetrics.seconds})::float8`,
        deviationSeconds: sql<number>`coalesce(stddev_samp(${stepMetrics.seconds}), 0)::float8`,
      })
      .from(runs)
      .innerJoin(
        stepMetrics,
        and(
          eq(stepMetrics.runId, runs.id),
          sql`${stepMetrics.sequence} > ${runs.lastMetric} - ${paceSteps}::int`,
          sql`${stepMetrics.attempt} = ${newest}`,
        ),
      )
      .where(inArray(runs.state, ["running", "pausing"]))
      .groupBy(runs.id);
    return new Map(rows.map(({ runId, ...pace }) => [runId, pace]));
  }

  /** When each run that waits came to wait. */
  async waitingSince(): Promise<Map<string, Date>> {
    const rows = await this.#database
      .select({ runId: runEvents.runId, since: sql<string>`max(${runEvents.time})` })
      .from(runEvents)
      .innerJoin(runs, eq(runs.id, runEvents.runId))
      .where(
        and(inArray(runs.state, ["queued", "scheduling"]), eq(runEvents.to, "queued"), ne(runEvents.from, "queued")),
      )
      .groupBy(runEvents.runId);
    return new Map(rows.map(({ runId, since }) => [runId, new Date(since)]));
  }
}
