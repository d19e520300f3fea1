import { messageOf, type Logger } from "@drydock/kit";
import { asc, eq, sql } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { asUnavailable } from "../store/database-errors.ts";
import { outbox } from "../store/schema.ts";
import type { Workflows } from "./workflows.ts";

type OutboxRow = typeof outbox.$inferSelect;

/** A call to be made once the transaction that wrote it has been committed. */
export type OutboxCall =
  | { readonly kind: "start"; readonly workflowId: string; readonly name: string; readonly input: unknown }
  | { readonly kind: "signal"; readonly workflowId: string; readonly name: string };

/** Writes a call in the caller's transaction, so that it is made if and only if the rest is kept. */
export async function enqueue(tx: Database, call: OutboxCall): Promise<void> {
  await tx.insert(outbox).values({ ...call, input: call.kind === "start" ? call.input : null });
}

/** Milliseconds that a row is held by the server that delivers it; after that another may try. */
const leaseMs = 30_000;
const batchSize = 64;
const concurrency = 16;

export interface OutboxTiming {
  /** Pause between looks at the table when nobody called `kick`. */
  readonly pollMs: number;
  /** First pause after the engine did not answer; doubles up to the maximum. */
  readonly firstRetryMs: number;
  readonly maximumRetryMs: number;
}

const defaultTiming: OutboxTiming = { pollMs: 2_000, firstRetryMs: 250, maximumRetryMs: 5_000 };

/**
 * Makes the calls that transactions left behind: at once after a commit (`kick`), else within seconds, for as long as
 * it takes. Calls of one workflow are made in order. A call may be made twice after a crash, which is harmless: a start
 * is idempotent, and a signal only repeats what was asked last.
 */
export class Outbox {
  readonly #database: Database;
  readonly #workflows: Workflows;
  readonly #logger: Logger;
  readonly #timing: OutboxTiming;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | null = null;
  #isKicked = false;
  #isClosed = false;
  #failures = 0;

  constructor(database: Database, workflows: Workflows, logger: Logger, timing: OutboxTiming = defaultTiming) {
    this.#database = database;
    this.#workflows = workflows;
    this.#logger = logger;
    this.#timing = timing;
  }

  start(): void {
    this.kick();
  }

  /** Looks at the table now, or right after the look that is under way. */
  kick(): void {
    if (this.#isClosed) return;
    this.#isKicked = true;
    if (this.#running !== null) return;
    clearTimeout(this.#timer);
    this.#running = this.#drain().finally(() => {
      this.#running = null;
      if (this.#isClosed) return;
      if (this.#isKicked && this.#failures === 0) this.kick();
      else this.#timer = setTimeout(() => this.kick(), this.#nextLookMs());
    });
  }

  /** Number of calls still to be made. */
  async depth(): Promise<number> {
    return await this.#database.$count(outbox);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #nextLookMs(): number {
    if (this.#failures === 0) return this.#timing.pollMs;
    return Math.min(this.#timing.maximumRetryMs, this.#timing.firstRetryMs * 2 ** Math.min(this.#failures - 1, 20));
  }

  async #drain(): Promise<void> {
    try {
      do {
        this.#isKicked = false;
        while (!this.#isClosed && (await this.#deliverBatch()) > 0);
      } while (this.#isKicked && !this.#isClosed);
      this.#failures = 0;
    } catch (error) {
      this.#failures++;
      const isExpected = asUnavailable(error) !== null;
      this.#logger[isExpected ? "warn" : "error"]({ err: error, failures: this.#failures }, "workflow calls wait");
    }
  }

  /** @returns how many calls were made @throws the first error of a call, after giving back the rest */
  async #deliverBatch(): Promise<number> {
    const rows = await this.#claim();
    let next = 0;
    let failure: unknown = null;
    let delivered = 0;
    const lane = async (): Promise<void> => {
      while (failure === null && next < rows.length) {
        const row = rows[next++]!;
        try {
          await this.#deliver(row);
          delivered++;
        } catch (error) {
          if (asUnavailable(error) !== null) failure ??= error;
          else this.#logger.error({ err: error, workflowId: row.workflowId, call: row.name }, "workflow call refused");
          await this.#giveBack(row, error);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, rows.length) }, lane));
    for (const row of rows.slice(next)) await this.#giveBack(row, null);
    if (failure !== null) throw failure;
    return delivered;
  }

  async #deliver(row: OutboxRow): Promise<void> {
    if (row.kind === "start") await this.#workflows.start(row.name, row.workflowId, row.input);
    else if ((await this.#workflows.signal(row.workflowId, row.name)) === "gone")
      this.#logger.info({ workflowId: row.workflowId, signal: row.name }, "signal came after the workflow had ended");
    await this.#database.delete(outbox).where(eq(outbox.id, row.id));
  }

  /** The oldest call of each workflow, held by a lease; calls behind one that is still to be made must wait. */
  async #claim(): Promise<OutboxRow[]> {
    return await this.#database.transaction(async (tx) => {
      const due = await tx
        .select()
        .from(outbox)
        .where(
          sql`${outbox.dueAt} <= now() and not exists (select 1 from outbox earlier where earlier.workflow_id = ${outbox.workflowId} and earlier.id < ${outbox.id})`,
        )
        .orderBy(asc(outbox.id))
        .limit(batchSize)
        .for("update", { skipLocked: true });
      if (due.length > 0)
        await tx
          .update(outbox)
          .set({ dueAt: sql`now() + make_interval(secs => ${leaseMs / 1000})`, tries: sql`${outbox.tries} + 1` })
          .where(sql`${outbox.id} in ${due.map((row) => row.id)}`);
      return due;
    });
  }

  /** Due again at once when the engine was away or the row was not tried; a call that was refused waits, longer each time. */
  async #giveBack(row: OutboxRow, error: unknown): Promise<void> {
    const isRefused = error !== null && asUnavailable(error) === null;
    const delaySeconds = isRefused ? Math.min(300, 2 ** Math.min(row.tries + 1, 10)) : 0;
    await this.#database
      .update(outbox)
      .set({
        dueAt: sql`now() + make_interval(secs => ${delaySeconds})`,
        ...(error === null ? {} : { lastError: messageOf(error) }),
      })
      .where(eq(outbox.id, row.id));
  }
}
