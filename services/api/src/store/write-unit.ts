import { UnprocessableError, newId } from "@drydock/kit";
import { and, eq, lt } from "drizzle-orm";
import type { Database } from "./database.ts";
import { auditEntries, idempotencyKeys } from "./schema.ts";

/** Who asks, and how a repeated request is known. */
export interface Caller {
  /** Id of the API key, or `controller`. */
  readonly actor: string;
  readonly requestId: string;
  /** `POST /v1/runs` */
  readonly action: string;
  readonly idempotencyKey: string | null;
}

export interface Written<Answer> {
  readonly answer: Answer;
  /** Id of what was written, for the audit row; null when nothing was. */
  readonly object: string | null;
}

export interface Work<Prepared, Answer> {
  /** Equal for equal requests; a key that comes back with another digest is refused. */
  readonly bodyDigest: string;
  /** Reads and computes, outside the transaction. */
  readonly prepare: () => Promise<Prepared>;
  /** Writes, in the transaction that also holds the audit row and the stored answer. */
  readonly write: (tx: Database, prepared: Prepared) => Promise<Written<Answer>>;
}

export interface Outcome<Answer> {
  readonly answer: Answer;
  /** True when the answer is a stored one and nothing was done. */
  readonly isReplay: boolean;
}

const keptMs = 7 * 24 * 3_600_000;

/**
 * Does the work of one write request, once.
 *
 * The row of the idempotency key is inserted first in the transaction, so of two requests with one key that run at the
 * same time the database lets the second wait until the first has ended, and then answers with the first one's answer.
 * A crash in between leaves neither. Only answers of success are kept: a refused request may be corrected and repeated.
 */
export class WriteUnit {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws UnprocessableError `idempotency_key_reused` */
  async once<Prepared, Answer>(caller: Caller, work: Work<Prepared, Answer>): Promise<Outcome<Answer>> {
    const stored = await this.#replay<Answer>(caller, work.bodyDigest);
    if (stored !== null) return stored;
    const prepared = await work.prepare();
    const outcome = await this.#database.transaction(async (tx) => {
      if (caller.idempotencyKey !== null && !(await claim(tx, caller, caller.idempotencyKey, work.bodyDigest)))
        return null;
      const { answer, object } = await work.write(tx, prepared);
      if (object !== null)
        await tx.insert(auditEntries).values({
          id: newId("event"),
          actor: caller.actor,
          action: caller.action,
          object,
          requestId: caller.requestId,
        });
      if (caller.idempotencyKey !== null)
        await tx.update(idempotencyKeys).set({ answer }).where(rowOf(caller, caller.idempotencyKey));
      return { answer, isReplay: false };
    });
    const settled = outcome ?? (await this.#replay<Answer>(caller, work.bodyDigest));
    return settled ?? (await this.once(caller, work));
  }

  /**
   * Answers a request that writes nothing; with a key, a repeat gets the same answer.
   *
   * @throws UnprocessableError `idempotency_key_reused`
   */
  async remember<Answer>(caller: Caller, bodyDigest: string, compute: () => Promise<Answer>): Promise<Outcome<Answer>> {
    if (caller.idempotencyKey === null) return { answer: await compute(), isReplay: false };
    return await this.once(caller, {
      bodyDigest,
      prepare: compute,
      write: async (_tx, answer) => ({ answer, object: null }),
    });
  }

  /** Forgets keys that are older than a week. */
  async forgetOldKeys(now: Date = new Date()): Promise<void> {
    await this.#database.delete(idempotencyKeys).where(lt(idempotencyKeys.createdAt, new Date(now.getTime() - keptMs)));
  }

  async #replay<Answer>(caller: Caller, bodyDigest: string): Promise<Outcome<Answer> | null> {
    if (caller.idempotencyKey === null) return null;
    const [row] = await this.#database.select().from(idempotencyKeys).where(rowOf(caller, caller.idempotencyKey));
    if (row === undefined) return null;
    if (row.bodyDigest === bodyDigest) return { answer: row.answer as Answer, isReplay: true };
    const message = `Idempotency-Key "${caller.idempotencyKey}" was used for another request before: send a new key with this one`;
    throw new UnprocessableError("idempotency_key_reused", message, {
      details: [{ path: "Idempotency-Key", code: "idempotency_key_reused", message }],
    });
  }
}

function rowOf(caller: Caller, key: string) {
  return and(eq(idempotencyKeys.actor, caller.actor), eq(idempotencyKeys.key, key));
}

/** False when the key is taken. Waits for another transaction that is just using it. */
async function claim(tx: Database, caller: Caller, key: string, bodyDigest: string): Promise<boolean> {
  const rows = await tx
    .insert(idempotencyKeys)
    .values({ actor: caller.actor, key, bodyDigest })
    .onConflictDoNothing()
    .returning({ key: idempotencyKeys.key });
  return rows.length > 0;
}
