import { NotFoundError } from "@drydock/kit";
import type { Evaluation, EvaluationSpec, EvaluationUpdate } from "@drydock/spec";
import { and, asc, desc, eq, inArray, lt } from "drizzle-orm";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import { emitEvent } from "./emit-event.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { evaluations } from "./schema.ts";

/** Evaluations: those of runs, written by the controller, and those that users ask for. */
export class EvaluationStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async insert(id: string, spec: EvaluationSpec, suiteId: string | null = null): Promise<Evaluation> {
    const values = {
      id,
      suiteId,
      phase: "standalone" as const,
      state: "queued" as const,
      message: "The evaluation waits to start.",
      spec,
      samples: 0,
    };
    const [row] = await this.#database.insert(evaluations).values(values).returning();
    return toEvaluation(row!);
  }

  async list(
    page: ListPage & {
      readonly runId?: string | undefined;
      readonly suiteId?: string | undefined;
      readonly state?: Evaluation["state"] | undefined;
    },
  ): Promise<Page<Evaluation>> {
    const before = decodeCursor(page.cursor);
    const rows = await this.#database
      .select()
      .from(evaluations)
      .where(
        and(
          before === null ? undefined : lt(evaluations.id, before),
          page.runId === undefined ? undefined : eq(evaluations.runId, page.runId),
          page.suiteId === undefined ? undefined : eq(evaluations.suiteId, page.suiteId),
          page.state === undefined ? undefined : eq(evaluations.state, page.state),
        ),
      )
      .orderBy(desc(evaluations.id))
      .limit(page.limit + 1);
    return pageFrom(rows, page.limit, toEvaluation, (row) => row.id);
  }

  /** @throws NotFoundError `evaluation_not_found` */
  async get(id: string): Promise<Evaluation> {
    const [row] = await this.#database.select().from(evaluations).where(eq(evaluations.id, id));
    if (row === undefined)
      throw new NotFoundError(
        "evaluation_not_found",
        `there is no evaluation "${id}": list them with GET /v1/evaluations`,
      );
    return toEvaluation(row);
  }

  /** Locked until the transaction ends. @throws NotFoundError `evaluation_not_found` */
  async lock(id: string): Promise<Evaluation> {
    await this.#database.select({ id: evaluations.id }).from(evaluations).where(eq(evaluations.id, id)).for("update");
    return await this.get(id);
  }

  /** Evaluations of a suite that are not over, locked until the transaction ends. */
  async lockOpenOfSuite(suiteId: string): Promise<string[]> {
    const rows = await this.#database
      .select({ id: evaluations.id })
      .from(evaluations)
      .where(and(eq(evaluations.suiteId, suiteId), inArray(evaluations.state, ["queued", "running"])))
      .orderBy(asc(evaluations.id))
      .for("update");
    return rows.map(({ id }) => id);
  }

  /** Changes the sentence alone. */
  async say(id: string, message: string): Promise<void> {
    await this.#database.update(evaluations).set({ message, updatedAt: new Date() }).where(eq(evaluations.id, id));
  }

  /** Inserts or replaces an evaluation under the caller's id; one that has succeeded or was cancelled stays as it is. */
  async put(id: string, update: EvaluationUpdate): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const [known] = await tx
        .select({ state: evaluations.state })
        .from(evaluations)
        .where(eq(evaluations.id, id))
        .for("update");
      if (known?.state === "succeeded" || known?.state === "cancelled") return;
      const set = { ...update, updatedAt: new Date() };
      await tx
        .insert(evaluations)
        .values({ id, ...update })
        .onConflictDoUpdate({ target: evaluations.id, set });
      const { state, message, phase, scores, spec } = update;
      if (phase === "standalone" && state !== known?.state && !isOpenState(state))
        await emitEvent(tx, {
          type: `evaluation.${state}`,
          data: { evaluation: id, state, message, model: spec.model, dataset: spec.dataset, scores },
        });
    });
  }
}

/** Whether it waits or goes on. */
export function isOpenEvaluation({ state }: Pick<Evaluation, "state">): boolean {
  return isOpenState(state);
}

function isOpenState(state: Evaluation["state"]): state is "queued" | "running" {
  return state === "queued" || state === "running";
}

export function toEvaluation(row: typeof evaluations.$inferSelect): Evaluation {
  return { ...row, createdAt: row.createdAt.toISOString(), updatedAt: row.updatedAt.toISOString() };
}
