import { NotFoundError } from "@drydock/kit";
import type { Model, ModelRegistration } from "@drydock/spec";
import { and, desc, eq, lt, or, sql } from "drizzle-orm";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { models, runs } from "./schema.ts";

/** Models that Drydock made, by name and version. */
export class ModelStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** By name, then newest version first. */
  async list(page: ListPage & { readonly name?: string | undefined }): Promise<Page<Model>> {
    const position = decodeCursor(page.cursor);
    const [afterName = "", afterVersion = "0"] = position?.split("@") ?? [];
    const rows = await this.#database
      .select()
      .from(models)
      .where(
        and(
          page.name === undefined ? undefined : eq(models.name, page.name),
          position === null
            ? undefined
            : or(
                sql`${models.name} > ${afterName}`,
                and(eq(models.name, afterName), lt(models.version, Number(afterVersion))),
              ),
        ),
      )
      .orderBy(models.name, desc(models.version))
      .limit(page.limit + 1);
    return pageFrom(rows, page.limit, toModel, (row) => `${row.name}@${row.version}`);
  }

  /** A version of a model, or null. Without a number: the newest. */
  async find(name: string, version: number | null): Promise<Model | null> {
    const [row] = await this.#database
      .select()
      .from(models)
      .where(and(eq(models.name, name), version === null ? undefined : eq(models.version, version)))
      .orderBy(desc(models.version))
      .limit(1);
    return row === undefined ? null : toModel(row);
  }

  /** @throws NotFoundError `model_not_found` */
  async get(name: string, version: number): Promise<Model> {
    const model = await this.find(name, version);
    if (model === null)
      throw new NotFoundError(
        "model_not_found",
        `there is no model "${name}@${version}": list them with GET /v1/models`,
      );
    return model;
  }

  /** Inserts or replaces a version, and names it in the run that made it. */
  async register(registration: ModelRegistration): Promise<Model> {
    return await this.#database.transaction(async (tx) => {
      const now = new Date();
      const [row] = await tx
        .insert(models)
        .values(registration)
        .onConflictDoUpdate({ target: [models.name, models.version], set: { ...registration, updatedAt: now } })
        .returning();
      await tx
        .update(runs)
        .set({
          model: `${registration.name}@${registration.version}`,
          updatedAt: now,
          revision: sql`${runs.revision} + 1`,
        })
        .where(
          and(
            eq(runs.id, registration.lineage.runId),
            sql`${runs.model} is distinct from ${`${registration.name}@${registration.version}`}`,
          ),
        );
      return toModel(row!);
    });
  }
}

function toModel(row: typeof models.$inferSelect): Model {
  return { ...row, createdAt: row.createdAt.toISOString(), updatedAt: row.updatedAt.toISOString() };
}
