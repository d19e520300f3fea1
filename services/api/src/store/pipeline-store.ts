import { ConflictError, NotFoundError, PreconditionFailedError, newId } from "@drydock/kit";
import {
  nextScheduled,
  openPipelineRunStates,
  type FiredTrigger,
  type Pipeline,
  type PipelineEvent,
  type PipelineResults,
  type PipelineRun,
  type PipelineRunState,
  type PipelineSpec,
} from "@drydock/spec";
import { and, asc, count, desc, eq, gt, inArray, lt, ne } from "drizzle-orm";
import { decodeCursor } from "../pages.ts";
import { emitEvent } from "./emit-event.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { pipelineEvents, pipelineRuns, pipelines } from "./schema.ts";

export type PipelineRow = typeof pipelines.$inferSelect;
export type PipelineRunRow = typeof pipelineRuns.$inferSelect;

/** What a run becomes: a state, results, a sentence. */
export interface PipelineRunChange {
  readonly state?: PipelineRunState;
  readonly message?: string;
  readonly results?: PipelineResults;
}

export interface NewPipelineEvent {
  /** Makes the row one, however often it is written. */
  readonly key: string;
  readonly actor: string;
  readonly step: string | null;
  readonly type: PipelineEvent["type"];
  readonly message: string;
}

/** Pipelines, their runs and the runs' timelines. Give it a transaction and everything it does is part of that. */
export class PipelineStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws ConflictError `pipeline_exists` */
  async insert(spec: PipelineSpec, now: Date): Promise<PipelineRow> {
    const [row] = await this.#database
      .insert(pipelines)
      .values({ id: newId("pipeline"), name: spec.name, state: "enabled", spec, scheduledUntil: now })
      .onConflictDoNothing({ target: pipelines.name })
      .returning();
    if (row === undefined)
      throw new ConflictError(
        "pipeline_exists",
        `there is a pipeline "${spec.name}" already: change it with PUT /v1/pipelines/${spec.name}, or choose another name`,
      );
    return row;
  }

  /** @throws NotFoundError `pipeline_not_found` */
  async get(name: string): Promise<PipelineRow> {
    const row = await this.find(name);
    if (row === null) throw notFound(name);
    return row;
  }

  async find(name: string): Promise<PipelineRow | null> {
    const [row] = await this.#database.select().from(pipelines).where(eq(pipelines.name, name));
    return row ?? null;
  }

  /** Locked until the transaction ends. @throws NotFoundError `pipeline_not_found` @throws PreconditionFailedError `pipeline_changed` */
  async lock(name: string, ifMatch?: string): Promise<PipelineRow> {
    const [row] = await this.#database.select().from(pipelines).where(eq(pipelines.name, name)).for("update");
    if (row === undefined) throw notFound(name);
    if (ifMatch === undefined || ifMatch.trim() === "*" || ifMatch.trim() === `"${row.revision}"`) return row;
    throw new PreconditionFailedError(
      "pipeline_changed",
      `pipeline ${name} has changed since you read it: read it again, then decide`,
    );
  }

  async all(): Promise<PipelineRow[]> {
    return await this.#database.select().from(pipelines).orderBy(asc(pipelines.name));
  }

  /** All of them, locked until the transaction ends, in one order, so that two who do that cannot wait for each other. */
  async lockAll(): Promise<PipelineRow[]> {
    return await this.#database.select().from(pipelines).orderBy(asc(pipelines.name)).for("update");
  }

  async change(
    row: PipelineRow,
    change: Partial<Pick<PipelineRow, "state" | "spec" | "scheduledUntil" | "webhookSecret">>,
  ): Promise<void> {
    const isSchedule = change.state === undefined && change.spec === undefined;
    await this.#database
      .update(pipelines)
      .set(isSchedule ? change : { ...change, revision: row.revision + 1, updatedAt: new Date() })
      .where(eq(pipelines.id, row.id));
  }

  async remove({ id }: PipelineRow): Promise<void> {
    // A query inside: a list of ids has an end at 65,535.
    const runs = this.#database
      .select({ id: pipelineRuns.id })
      .from(pipelineRuns)
      .where(eq(pipelineRuns.pipelineId, id));
    await this.#database.delete(pipelineEvents).where(inArray(pipelineEvents.pipelineRunId, runs));
    await this.#database.delete(pipelineRuns).where(eq(pipelineRuns.pipelineId, id));
    await this.#database.delete(pipelines).where(eq(pipelines.id, id));
  }

  async findRunByTrigger(pipelineId: string, triggerKey: string): Promise<PipelineRunRow | null> {
    const [row] = await this.#database
      .select()
      .from(pipelineRuns)
      .where(and(eq(pipelineRuns.pipelineId, pipelineId), eq(pipelineRuns.triggerKey, triggerKey)));
    return row ?? null;
  }

  async openRuns(pipelineId: string): Promise<PipelineRunRow[]> {
    return await this.#database
      .select()
      .from(pipelineRuns)
      .where(and(eq(pipelineRuns.pipelineId, pipelineId), inArray(pipelineRuns.state, [...openPipelineRunStates])))
      .orderBy(asc(pipelineRuns.number));
  }

  /** Runs since a time, those that were left out not counted. */
  async runsSince(pipelineId: string, since: Date): Promise<number> {
    return await this.#database.$count(
      pipelineRuns,
      and(
        eq(pipelineRuns.pipelineId, pipelineId),
        gt(pipelineRuns.createdAt, since),
        ne(pipelineRuns.state, "skipped"),
      ),
    );
  }

  /** The pipeline's row must be locked. */
  async insertRun(
    pipeline: PipelineRow,
    run: { state: PipelineRunState; message: string; triggerKey: string; trigger: FiredTrigger },
  ): Promise<PipelineRunRow> {
    const number = pipeline.lastNumber + 1;
    await this.#database.update(pipelines).set({ lastNumber: number }).where(eq(pipelines.id, pipeline.id));
    const [row] = await this.#database
      .insert(pipelineRuns)
      .values({
        ...run,
        id: newId("pipelineRun"),
        pipelineId: pipeline.id,
        number,
        spec: pipeline.spec,
        results: { done: [], startedAt: {} },
        ...(run.state === "skipped" ? { endedAt: new Date() } : {}),
      })
      .returning();
    await this.#tell(row!, run.state);
    return row!;
  }

  /** @throws NotFoundError `pipeline_run_not_found` */
  async getRun(id: string): Promise<PipelineRunRow> {
    const [row] = await this.#database.select().from(pipelineRuns).where(eq(pipelineRuns.id, id));
    if (row === undefined) throw runNotFound(id);
    return row;
  }

  /** @throws NotFoundError `pipeline_run_not_found` */
  async lockRun(id: string): Promise<PipelineRunRow> {
    const [row] = await this.#database.select().from(pipelineRuns).where(eq(pipelineRuns.id, id)).for("update");
    if (row === undefined) throw runNotFound(id);
    return row;
  }

  /** Newest first, one more than asked for. */
  async listRuns(pipelineId: string, page: ListPage): Promise<PipelineRunRow[]> {
    const before = decodeCursor(page.cursor);
    return await this.#database
      .select()
      .from(pipelineRuns)
      .where(and(eq(pipelineRuns.pipelineId, pipelineId), before === null ? undefined : lt(pipelineRuns.id, before)))
      .orderBy(desc(pipelineRuns.id))
      .limit(page.limit + 1);
  }

  async changeRun(row: PipelineRunRow, change: PipelineRunChange): Promise<void> {
    const now = new Date();
    const isOver = change.state !== undefined && !openPipelineRunStates.includes(change.state);
    await this.#database
      .update(pipelineRuns)
      .set({ ...change, revision: row.revision + 1, updatedAt: now, ...(isOver ? { endedAt: now } : {}) })
      .where(eq(pipelineRuns.id, row.id));
    if (change.state !== undefined && change.state !== row.state) await this.#tell({ ...row, ...change }, change.state);
  }

  /** Tells webhooks where a run has got to. */
  async #tell({ id, number, spec, message, results }: PipelineRunRow, state: PipelineRunState): Promise<void> {
    if (state === "queued" || state === "cancelling") return;
    const data = { pipelineRun: id, pipeline: spec.name, number, state, message, candidate: results.candidate ?? null };
    await emitEvent(this.#database, { type: `pipeline-run.${state}`, data });
  }

  /** Adds a row to a run's timeline; one with the same key is there already. The run's row must be locked. */
  async append(runId: string, event: NewPipelineEvent): Promise<void> {
    const [known] = await this.#database
      .select({ key: pipelineEvents.key })
      .from(pipelineEvents)
      .where(and(eq(pipelineEvents.pipelineRunId, runId), eq(pipelineEvents.key, event.key)));
    if (known !== undefined) return;
    const [last] = await this.#database
      .select({ rows: count() })
      .from(pipelineEvents)
      .where(eq(pipelineEvents.pipelineRunId, runId));
    await this.#database
      .insert(pipelineEvents)
      .values({ ...event, pipelineRunId: runId, sequence: (last?.rows ?? 0) + 1, time: new Date() });
  }

  /** @param after  sequence of the last line that is known */
  async timeline(runId: string, after = 0): Promise<PipelineEvent[]> {
    const rows = await this.#database
      .select()
      .from(pipelineEvents)
      .where(and(eq(pipelineEvents.pipelineRunId, runId), gt(pipelineEvents.sequence, after)))
      .orderBy(asc(pipelineEvents.sequence));
    return rows.map(({ sequence, time, actor, step, type, message }) => ({
      sequence,
      time: time.toISOString(),
      actor,
      step,
      type,
      message,
    }));
  }
}

/** Names a line of the timeline; what is done again, because production changed, has lines of its own. */
export function timelineKey({ results: { repeats = 0 } }: Pick<PipelineRunRow, "results">, what: string): string {
  return repeats === 0 ? what : `${what}-${repeats}`;
}

export function toPipeline(row: PipelineRow, now: Date): Pipeline {
  const { id, name, state, spec, lastNumber, revision, createdAt, updatedAt } = row;
  return {
    id,
    name,
    state,
    spec,
    nextAt: state === "paused" ? null : (nextScheduled(spec, now)?.toISOString() ?? null),
    runs: lastNumber,
    etag: `"${revision}"`,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

export function toPipelineRun(row: PipelineRunRow): PipelineRun {
  const { id, number, state, message, trigger, spec, results, createdAt, updatedAt, endedAt } = row;
  const isOpen = openPipelineRunStates.includes(state);
  return {
    id,
    pipeline: spec.name,
    number,
    state,
    step: isOpen ? (spec.steps.find(({ type }) => !results.done.includes(type))?.type ?? null) : null,
    message,
    trigger,
    spec,
    results,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
  };
}

function notFound(name: string): NotFoundError {
  return new NotFoundError("pipeline_not_found", `there is no pipeline "${name}": list them with GET /v1/pipelines`);
}

function runNotFound(id: string): NotFoundError {
  return new NotFoundError(
    "pipeline_run_not_found",
    `there is no run "${id}" of a pipeline: list them with GET /v1/pipelines/{name}/runs`,
  );
}
