import { NotFoundError, PreconditionFailedError, newId } from "@drydock/kit";
import {
  RunTransition,
  type Attempt,
  type InternalRun,
  type Plan,
  type Run,
  type RunParent,
  type RunSpec,
  type RunState,
  type RunSummary,
} from "@drydock/spec";
import { and, asc, count, desc, eq, inArray, isNull, lt, notInArray, sql, type SQL } from "drizzle-orm";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import { canTransition, isTerminal } from "../runs/run-state-machine.ts";
import { emitEvent } from "./emit-event.ts";
import type { Database } from "./database.ts";
import { toAttempt, toRun, toRunSummary, type RunRow } from "./run-records.ts";
import { attempts, runEvents, runs } from "./schema.ts";

export interface RunFilter {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly state?: readonly RunState[] | undefined;
  readonly name?: string | undefined;
  readonly queue?: string | undefined;
  readonly datasetId?: string | undefined;
}

export interface NewRun {
  readonly id: string;
  readonly spec: RunSpec;
  readonly plan: Plan;
  readonly datasetId: string;
  readonly datasetVersion: number;
  readonly actor: string;
  readonly parent: RunParent | null;
}

/** What a transition did: whether it took effect, and where the run is now. */
export interface TransitionResult {
  readonly applied: boolean;
  readonly from: RunState;
  readonly state: RunState;
}

export function runNotFound(id: string): NotFoundError {
  return new NotFoundError("run_not_found", `there is no run "${id}": list them with GET /v1/runs`);
}

/** Runs, their attempts and their changes of state. Give it a transaction and everything it does is part of that. */
export class RunStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws NotFoundError `run_not_found` */
  async get(id: string): Promise<Run> {
    const row = await this.#row(id);
    return toRun(row, await this.#attemptsOf(id));
  }

  /** @throws NotFoundError `run_not_found` */
  async getInternal(id: string): Promise<InternalRun> {
    const row = await this.#row(id);
    const { state, spec, plan, datasetId, datasetVersion } = row;
    return { id, state, spec, plan, datasetId, datasetVersion, attempts: (await this.#attemptsOf(id)).map(toAttempt) };
  }

  /** @throws NotFoundError `run_not_found` */
  async stateOf(id: string): Promise<RunState> {
    const [row] = await this.#database.select({ state: runs.state }).from(runs).where(eq(runs.id, id));
    if (row === undefined) throw runNotFound(id);
    return row.state;
  }

  /** Newest first. Ids sort by age, so the last id of a page is a stable place to go on from. */
  async list(filter: RunFilter): Promise<Page<RunSummary>> {
    const before = decodeCursor(filter.cursor);
    const conditions: (SQL | undefined)[] = [
      before === null ? undefined : lt(runs.id, before),
      filter.state === undefined ? undefined : inArray(runs.state, [...filter.state]),
      filter.name === undefined ? undefined : eq(runs.name, filter.name),
      filter.queue === undefined ? undefined : eq(runs.queue, filter.queue),
      filter.datasetId === undefined ? undefined : eq(runs.datasetId, filter.datasetId),
    ];
    const rows = await this.#database
      .select()
      .from(runs)
      .where(and(...conditions))
      .orderBy(desc(runs.id))
      .limit(filter.limit + 1);
    return pageFrom(rows, filter.limit, toRunSummary, (row) => row.id);
  }

  /** Writes a new run in state `validating`, with its first event. */
  async insert(run: NewRun): Promise<Run> {
    const { id, spec, plan, datasetId, datasetVersion } = run;
    const message = "The run is accepted and is being checked.";
    const progress = {
      step: 0,
      totalSteps: plan.steps.total,
      epoch: 0,
      loss: null,
      tokensPerSecond: null,
      remainingSeconds: null,
    };
    const [row] = await this.#database
      .insert(runs)
      .values({
        id,
        name: spec.name,
        state: "validating",
        reason: "submitted",
        message,
        queue: spec.queue,
        spec,
        plan,
        progress,
        datasetId,
        datasetVersion,
        parent: run.parent,
        lastEvent: 1,
      })
      .returning();
    await this.#database.insert(runEvents).values({
      runId: id,
      sequence: 1,
      key: "submitted",
      time: row!.createdAt,
      actor: run.actor,
      type: "state.changed",
      from: null,
      to: "validating",
      reason: "submitted",
      message,
    });
    return toRun(row!, []);
  }

  /**
   * Moves a run to another state, in one transaction with its event row. A repeated `key` changes nothing; a change that
   * the state machine forbids (a terminal state is never left) is not applied, and says so.
   *
   * @throws NotFoundError `run_not_found`
   */
  async transition(id: string, change: RunTransition): Promise<TransitionResult> {
    const { key, to, reason, message, attempt, step, actor } = RunTransition.parse(change);
    return await this.#database.transaction(async (tx) => {
      const row = await lockRun(tx, id);
      const from = row.state;
      const [known] = await tx
        .select({ key: runEvents.key })
        .from(runEvents)
        .where(and(eq(runEvents.runId, id), eq(runEvents.key, key)));
      if (known !== undefined) return { applied: true, from, state: from };
      if (!canTransition(from, to)) return { applied: false, from, state: from };
      const now = new Date();
      const isNews = from !== to || row.reason !== reason;
      const sequence = row.lastEvent + 1;
      if (isNews)
        await tx.insert(runEvents).values({
          runId: id,
          sequence,
          key,
          time: now,
          actor,
          type: "state.changed",
          from,
          to,
          reason,
          message,
          attempt,
          step,
        });
      await tx
        .update(runs)
        .set({
          state: to,
          reason,
          message,
          updatedAt: now,
          revision: row.revision + 1,
          lastEvent: isNews ? sequence : row.lastEvent,
          startedAt: row.startedAt ?? (to === "running" || to === "evaluating" ? now : null),
          endedAt: isTerminal(to) ? now : null,
        })
        .where(eq(runs.id, id));
      if (from !== to && isNewsForOthers(to))
        await emitEvent(tx, {
          type: `run.${to}`,
          data: { run: id, name: row.name, state: to, reason, message, model: row.model },
        });
      return { applied: true, from, state: to };
    });
  }

  /** Gives a run another plan, which its next attempt follows. @throws NotFoundError `run_not_found` */
  async replan(id: string, { spec, plan }: Pick<NewRun, "spec" | "plan">): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const row = await lockRun(tx, id);
      await tx
        .update(runs)
        .set({ spec, plan, revision: row.revision + 1, updatedAt: new Date() })
        .where(eq(runs.id, id));
    });
  }

  /** Changes the priority of a run, with its event. Its state and reason stay. @throws NotFoundError `run_not_found` */
  async setPriority(
    id: string,
    priority: RunSpec["priority"],
    event: { message: string; actor: string },
  ): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const row = await lockRun(tx, id);
      const sequence = row.lastEvent + 1;
      const now = new Date();
      await tx.insert(runEvents).values({
        ...event,
        runId: id,
        sequence,
        key: `priority/${newId("event")}`,
        time: now,
        type: "priority.changed",
        from: row.state,
        to: row.state,
        reason: "priority-changed",
      });
      await tx
        .update(runs)
        .set({
          spec: sql`jsonb_set(${runs.spec}, '{priority}', ${JSON.stringify(priority)}::jsonb)`,
          revision: row.revision + 1,
          lastEvent: sequence,
          updatedAt: now,
        })
        .where(eq(runs.id, id));
    });
  }

  /** Inserts or replaces one attempt. @throws NotFoundError `run_not_found` */
  async putAttempt(id: string, attempt: Attempt): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const row = await lockRun(tx, id);
      const values = {
        ...attempt,
        startedAt: new Date(attempt.startedAt),
        endedAt: attempt.endedAt === null ? null : new Date(attempt.endedAt),
      };
      await tx
        .insert(attempts)
        .values({ runId: id, ...values })
        // A report that was held up on its way may arrive after the attempt's end: what has ended stays ended.
        .onConflictDoUpdate({
          target: [attempts.runId, attempts.epoch],
          set: values,
          setWhere: isNull(attempts.endedAt),
        });
      await tx
        .update(runs)
        .set({ revision: row.revision + 1, updatedAt: new Date() })
        .where(eq(runs.id, id));
    });
  }

  /**
   * Fails when the run has changed since the caller read it.
   *
   * @param ifMatch  value of the `If-Match` header; nothing is checked without one, or with `*`
   * @throws PreconditionFailedError `run_changed`
   */
  async checkUnchanged(id: string, ifMatch: string | undefined): Promise<void> {
    if (ifMatch === undefined || ifMatch.trim() === "*") return;
    const row = await lockRun(this.#database, id);
    const accepted = ifMatch.split(",").map((tag) => /^"(\d+)(?:\.[0-9a-f]+){0,2}"$/.exec(tag.trim())?.[1]);
    if (!accepted.includes(String(row.revision)))
      throw new PreconditionFailedError(
        "run_changed",
        `run ${id} has changed since you read it (it is ${row.state} now): read it again, then decide`,
      );
  }

  /** Runs that are not over, counted by queue and state. */
  async depths(): Promise<{ queue: string; state: RunState; runs: number }[]> {
    return await this.#database
      .select({ queue: runs.queue, state: runs.state, runs: count() })
      .from(runs)
      .where(notInArray(runs.state, ["succeeded", "failed", "cancelled"]))
      .groupBy(runs.queue, runs.state)
      .orderBy(asc(runs.queue), asc(runs.state));
  }

  /** All runs, counted by state. */
  async countByState(): Promise<{ state: RunState; runs: number }[]> {
    return await this.#database
      .select({ state: runs.state, runs: count() })
      .from(runs)
      .groupBy(runs.state)
      .orderBy(asc(runs.state));
  }

  /** Why runs that are not over wait: their states, reasons and messages, oldest first. */
  async waiting(
    queue: string,
    limit: number,
  ): Promise<(Pick<Run, "id" | "name" | "state" | "reason" | "message"> & Pick<RunSpec, "priority">)[]> {
    const { id, name, state, reason, message } = runs;
    const priority = sql<RunSpec["priority"]>`${runs.spec}->>'priority'`;
    return await this.#database
      .select({ id, name, state, reason, message, priority })
      .from(runs)
      .where(
        and(eq(runs.queue, queue), inArray(runs.state, ["validating", "queued", "scheduling", "paused", "pausing"])),
      )
      .orderBy(asc(runs.id))
      .limit(limit);
  }

  async #row(id: string): Promise<RunRow> {
    const [row] = await this.#database.select().from(runs).where(eq(runs.id, id));
    if (row === undefined) throw runNotFound(id);
    return row;
  }

  async #attemptsOf(id: string): Promise<(typeof attempts.$inferSelect)[]> {
    return await this.#database.select().from(attempts).where(eq(attempts.runId, id)).orderBy(asc(attempts.epoch));
  }
}

/** The small columns of a run, its row locked until the transaction ends. @throws NotFoundError `run_not_found` */
export async function lockRun(database: Database, id: string) {
  const { name, model, state, reason, revision, progress, progressRevision, lastEvent, lastMetric, startedAt } = runs;
  const columns = {
    name,
    model,
    state,
    reason,
    revision,
    progress,
    progressRevision,
    lastEvent,
    lastMetric,
    startedAt,
  };
  const [row] = await database.select(columns).from(runs).where(eq(runs.id, id)).for("update");
  if (row === undefined) throw runNotFound(id);
  return row;
}

/** States that webhooks tell of. */
function isNewsForOthers(state: RunState): state is "running" | "paused" | "succeeded" | "failed" | "cancelled" {
  return ["running", "paused", "succeeded", "failed", "cancelled"].includes(state);
}
