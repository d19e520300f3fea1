import { ConflictError, NotFoundError, PreconditionFailedError } from "@drydock/kit";
import {
  terminalRunStates,
  type Attempt,
  type RunParent,
  type Scores,
  type SweepRung,
  type SweepSpec,
  type SweepState,
} from "@drydock/spec";
import { and, asc, avg, desc, eq, inArray, lt, ne, notInArray, sql } from "drizzle-orm";
import { decodeCursor } from "../pages.ts";
import { emitEvent } from "./emit-event.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { attempts, evaluations, runs, stepMetrics, sweeps, sweepTrials } from "./schema.ts";

export type SweepRow = typeof sweeps.$inferSelect;
export type TrialRow = typeof sweepTrials.$inferSelect;

/** A trial with what its run has shown so far. */
export interface TrialRecord {
  readonly trial: TrialRow;
  readonly run: Pick<
    typeof runs.$inferSelect,
    "id" | "state" | "message" | "progress" | "scoresAfter" | "model" | "plan"
  > | null;
  /** Scores while it trained, by step. */
  readonly during: readonly { readonly step: number; readonly scores: Scores }[];
  /** Mean loss of the last steps up to each rung that was asked for, and up to its last step. */
  readonly losses: readonly SweepRung[];
  readonly attempts: readonly {
    readonly startedAt: Date;
    readonly endedAt: Date | null;
    readonly state: Attempt["state"];
  }[];
}

/** So many steps are taken together for the loss at a rung: that of one batch says little. */
const lossSteps = 5;

/** Sweeps and their trials. */
export class SweepStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async insert(values: { id: string; spec: SweepSpec; parent: RunParent | null; message: string }): Promise<SweepRow> {
    const { spec } = values;
    const [row] = await this.#database
      .insert(sweeps)
      .values({ ...values, name: spec.name, state: "running", maxParallel: spec.maxParallel })
      .returning();
    return row!;
  }

  /** Newest first, one more than asked for. */
  async list(page: ListPage): Promise<SweepRow[]> {
    const before = decodeCursor(page.cursor);
    return await this.#database
      .select()
      .from(sweeps)
      .where(before === null ? undefined : lt(sweeps.id, before))
      .orderBy(desc(sweeps.id))
      .limit(page.limit + 1);
  }

  /** @throws NotFoundError `sweep_not_found` */
  async get(id: string): Promise<SweepRow> {
    const [row] = await this.#database.select().from(sweeps).where(eq(sweeps.id, id));
    if (row === undefined) throw sweepNotFound(id);
    return row;
  }

  /** Locked until the transaction ends. @throws NotFoundError `sweep_not_found` */
  async lock(id: string): Promise<SweepRow> {
    const [row] = await this.#database.select().from(sweeps).where(eq(sweeps.id, id)).for("update");
    if (row === undefined) throw sweepNotFound(id);
    return row;
  }

  async findByParent(parent: RunParent): Promise<SweepRow | null> {
    const [row] = await this.#database
      .select()
      .from(sweeps)
      .where(sql`${sweeps.parent} = ${JSON.stringify(parent)}::jsonb`);
    return row ?? null;
  }

  /** @throws PreconditionFailedError `sweep_changed` when it is no longer the one that the caller read */
  async lockUnchanged(id: string, ifMatch: string | undefined): Promise<SweepRow> {
    const row = await this.lock(id);
    if (
      ifMatch === undefined ||
      ifMatch.trim() === "*" ||
      ifMatch.split(",").some((tag) => tag.trim() === etagOfSweep(row))
    )
      return row;
    throw new PreconditionFailedError(
      "sweep_changed",
      `sweep ${id} has changed since you read it (it is ${row.state} now): read it again, then decide`,
    );
  }

  async change(
    row: SweepRow,
    change: Partial<{ state: SweepState; message: string; maxParallel: number }>,
  ): Promise<void> {
    const isOver = change.state !== undefined && isTerminalSweep(change.state);
    const now = new Date();
    await this.#database
      .update(sweeps)
      .set({
        ...change,
        ...(isOver ? { endedAt: now } : {}),
        revision: row.revision + 1,
        updatedAt: now,
      })
      .where(eq(sweeps.id, row.id));
    const { state, message = row.message } = change;
    if (state !== row.state && (state === "succeeded" || state === "failed" || state === "cancelled"))
      await emitEvent(this.#database, {
        type: `sweep.${state}`,
        data: { sweep: row.id, name: row.spec.name, state, message },
      });
  }

  async insertTrial(trial: Pick<TrialRow, "sweepId" | "number" | "runId" | "parameters" | "message">): Promise<void> {
    await this.#database.insert(sweepTrials).values({ ...trial, state: "open" });
  }

  async findTrial(sweepId: string, number: number): Promise<TrialRow | null> {
    const [row] = await this.#database
      .select()
      .from(sweepTrials)
      .where(and(eq(sweepTrials.sweepId, sweepId), eq(sweepTrials.number, number)));
    return row ?? null;
  }

  /** Numbers of the trials whose runs go on, those left out that are being stopped. */
  async openTrials(sweepId: string): Promise<number[]> {
    const rows = await this.#database
      .select({ number: sweepTrials.number })
      .from(sweepTrials)
      .innerJoin(runs, eq(runs.id, sweepTrials.runId))
      .where(
        and(
          eq(sweepTrials.sweepId, sweepId),
          ne(sweepTrials.state, "stopped"),
          notInArray(runs.state, [...terminalRunStates]),
        ),
      )
      .orderBy(asc(sweepTrials.number));
    return rows.map(({ number }) => number);
  }

  async decideTrial(sweepId: string, number: number, state: TrialRow["state"], message: string): Promise<void> {
    await this.#database
      .update(sweepTrials)
      .set({ state, message, updatedAt: new Date() })
      .where(and(eq(sweepTrials.sweepId, sweepId), eq(sweepTrials.number, number)));
  }

  /** All trials of a sweep, by number. @param lossAt  steps at which the training loss is wanted; null: at none */
  async trials(sweepId: string, lossAt: readonly number[] | null): Promise<TrialRecord[]> {
    const rows = await this.#database
      .select()
      .from(sweepTrials)
      .where(eq(sweepTrials.sweepId, sweepId))
      .orderBy(asc(sweepTrials.number));
    const runIds = rows.flatMap(({ runId }) => runId ?? []);
    if (runIds.length === 0) return rows.map((trial) => ({ trial, run: null, during: [], losses: [], attempts: [] }));
    const runRows = await this.#runs(runIds);
    const during = await this.#during(runIds);
    const attemptRows = await this.#attempts(runIds);
    const losses = lossAt === null ? [] : await this.#losses(runIds, lossAt);
    return rows.map((trial) => ({
      trial,
      run: runRows.find(({ id }) => id === trial.runId) ?? null,
      during: during.filter(({ runId }) => runId === trial.runId),
      losses: losses.flatMap(({ runId, step, score }) => (runId === trial.runId ? [{ step, score }] : [])),
      attempts: attemptRows.filter(({ runId }) => runId === trial.runId),
    }));
  }

  async #runs(runIds: readonly string[]) {
    const { id, state, message, progress, scoresAfter, model, plan } = runs;
    return await this.#database
      .select({ id, state, message, progress, scoresAfter, model, plan })
      .from(runs)
      .where(inArray(runs.id, [...runIds]));
  }

  async #during(runIds: readonly string[]): Promise<{ runId: string | null; step: number; scores: Scores }[]> {
    const rows = await this.#database
      .select({ runId: evaluations.runId, step: evaluations.step, scores: evaluations.scores })
      .from(evaluations)
      .where(
        and(
          inArray(evaluations.runId, [...runIds]),
          eq(evaluations.phase, "during"),
          eq(evaluations.state, "succeeded"),
        ),
      )
      .orderBy(asc(evaluations.step));
    return rows.flatMap(({ runId, step, scores }) =>
      step === null || scores === null ? [] : [{ runId, step, scores }],
    );
  }

  async #attempts(runIds: readonly string[]) {
    const { runId, startedAt, endedAt, state } = attempts;
    return await this.#database
      .select({ runId, startedAt, endedAt, state })
      .from(attempts)
      .where(inArray(attempts.runId, [...runIds]));
  }

  /** Of each run at the steps that it has reached, and at its last one; in the order of steps. One query: there may be 500 trials. */
  async #losses(runIds: readonly string[], steps: readonly number[]): Promise<(SweepRung & { runId: string })[]> {
    const lastStep = sql`(${runs.progress}->>'step')::int`;
    const asked = sql.join([...steps.map((step) => sql`${step}::bigint`), lastStep], sql`, `);
    const rows = await this.#database
      .select({ runId: stepMetrics.runId, step: sql<number>`rungs.step::int`, score: avg(stepMetrics.loss) })
      .from(runs)
      .innerJoin(sql`lateral unnest(array[${asked}]) as rungs(step)`, sql`rungs.step <= ${lastStep}`)
      .innerJoin(
        stepMetrics,
        and(
          eq(stepMetrics.runId, runs.id),
          sql`${stepMetrics.step} > rungs.step - ${lossSteps} and ${stepMetrics.step} <= rungs.step`,
        ),
      )
      .where(inArray(runs.id, [...runIds]))
      .groupBy(stepMetrics.runId, sql`rungs.step`)
      .orderBy(sql`rungs.step`);
    return rows.flatMap(({ runId, step, score }) => (score === null ? [] : [{ runId, step, score: Number(score) }]));
  }
}

export function etagOfSweep({ revision }: Pick<SweepRow, "revision">): string {
  return `"${revision}"`;
}

export function isTerminalSweep(state: SweepState): boolean {
  return state === "succeeded" || state === "failed" || state === "cancelled";
}

export function refuseOver({ id, state }: Pick<SweepRow, "id" | "state">): void {
  if (isTerminalSweep(state))
    throw new ConflictError(
      "sweep_is_over",
      `sweep ${id} has ${state === "cancelled" ? "been cancelled" : state} and can no longer be changed: submit a new one`,
    );
}

function sweepNotFound(id: string): NotFoundError {
  return new NotFoundError("sweep_not_found", `there is no sweep "${id}": list them with GET /v1/sweeps`);
}
