import { newId } from "@drydock/kit";
import type { Observation } from "@drydock/spec";
import { and, desc, eq, gte, lt } from "drizzle-orm";
import type { ObservedModel } from "../observations/live-metrics.ts";
import type { Database } from "./database.ts";
import { observations } from "./schema.ts";

/** So many of a window count, the newest: what is live needs no more to be judged. */
const mostRead = 5000;

/** Answers of models in use, as applications reported them. */
export class ObservationStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @returns how many were new */
  async insert({ name, version, task }: ObservedModel, batch: readonly Observation[]): Promise<number> {
    const rows = await this.#database
      .insert(observations)
      .values(
        batch.map((body) => ({
          id: newId("observation"),
          modelName: name,
          modelVersion: version,
          key: body.key,
          time: new Date(body.time),
          task,
          body,
        })),
      )
      .onConflictDoNothing({ target: [observations.modelName, observations.modelVersion, observations.key] })
      .returning({ id: observations.id });
    return rows.length;
  }

  /** The time of the newest answer of any version; null before the first. */
  async newest(name: string): Promise<string | null> {
    const [row] = await this.#database
      .select({ id: observations.id })
      .from(observations)
      .where(eq(observations.modelName, name))
      .orderBy(desc(observations.id))
      .limit(1);
    return row?.id ?? null;
  }

  /** Removes answers of before a time. */
  async forgetOlder(before: Date): Promise<void> {
    await this.#database.delete(observations).where(lt(observations.time, before));
  }

  /** Newest first. */
  async since({ name, version }: Pick<ObservedModel, "name" | "version">, since: Date): Promise<Observation[]> {
    const rows = await this.#database
      .select({ body: observations.body })
      .from(observations)
      .where(
        and(eq(observations.modelName, name), eq(observations.modelVersion, version), gte(observations.time, since)),
      )
      .orderBy(desc(observations.time))
      .limit(mostRead);
    return rows.map(({ body }) => body);
  }
}
