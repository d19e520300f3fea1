import { NotFoundError } from "@drydock/kit";
import { latestAlias, type Model, type ModelRegistration, type ModelStage, type VersionOrAlias } from "@drydock/spec";
import { and, asc, desc, eq, inArray, lt, or, sql } from "drizzle-orm";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { modelAliases, models, runs } from "./schema.ts";

export type ModelRow = typeof models.$inferSelect;

export interface ModelFilter extends ListPage {
  readonly name?: string | undefined;
  readonly stage?: ModelStage | undefined;
}

export function modelNotFound(name: string, version: VersionOrAlias | null): NotFoundError {
  const message =
    typeof version === "string"
      ? `model "${name}" has no alias "${version}": list its aliases with GET /v1/models/${name}/aliases, or give a version's number`
      : `there is no model "${name}${version === null ? "" : `@${version}`}": list them with GET /v1/models`;
  return new NotFoundError("model_not_found", message);
}

/** Models that Drydock made, by name and version. Give it a transaction and everything it does is part of that. */
export class ModelStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** By name, then newest version first. */
  async list(filter: ModelFilter): Promise<Page<Model>> {
    const position = decodeCursor(filter.cursor);
    const [afterName = "", afterVersion = "0"] = position?.split("@") ?? [];
    const rows = await this.#database
      .select()
      .from(models)
      .where(
        and(
          filter.name === undefined ? undefined : eq(models.name, filter.name),
          filter.stage === undefined ? undefined : eq(models.stage, filter.stage),
          position === null
            ? undefined
            : or(
                sql`${models.name} > ${afterName}`,
                and(eq(models.name, afterName), lt(models.version, Number(afterVersion))),
              ),
        ),
      )
      .orderBy(models.name, desc(models.version))
      .limit(filter.limit + 1);
    const aliases = await this.#aliasesOf(rows.map(({ name }) => name));
    return pageFrom(
      rows,
      filter.limit,
      (row) => toModel(row, aliases),
      (row) => `${row.name}@${row.version}`,
    );
  }

  /** A version by its number or an alias, or null. Without one, or as `latest`: the newest whose files are there, else the newest. */
  async find(name: string, version: VersionOrAlias | null): Promise<Model | null> {
    const isNewest = version === null || version === latestAlias;
    const number = typeof version === "string" && !isNewest ? await this.#aliasTarget(name, version) : version;
    if (number === null && !isNewest) return null;
    const [row] = await this.#database
      .select()
      .from(models)
      .where(and(eq(models.name, name), typeof number === "number" ? eq(models.version, number) : undefined))
      .orderBy(sql`${models.filesRemovedAt} is not null`, desc(models.version))
      .limit(1);
    return row === undefined ? null : toModel(row, await this.#aliasesOf([name]));
  }

  /** @throws NotFoundError `model_not_found` */
  async get(name: string, version: VersionOrAlias | null): Promise<Model> {
    const model = await this.find(name, version);
    if (model === null) throw modelNotFound(name, version);
    return model;
  }

  /** All versions of a model, newest first. @throws NotFoundError `model_not_found` */
  async versions(name: string): Promise<Model[]> {
    const rows = await this.#database.select().from(models).where(eq(models.name, name)).orderBy(desc(models.version));
    if (rows.length === 0) throw modelNotFound(name, null);
    const aliases = await this.#aliasesOf([name]);
    return rows.map((row) => toModel(row, aliases));
  }

  /** Inserts or replaces a version, and names it in the run that made it. Stage, notes and aliases stay as they are. */
  async register(registration: ModelRegistration): Promise<Model> {
    return await this.#database.transaction(async (tx) => {
      const now = new Date();
      const [row] = await tx
        .insert(models)
        .values(registration)
        .onConflictDoUpdate({
          target: [models.name, models.version],
          set: { ...registration, updatedAt: now, revision: sql`${models.revision} + 1` },
        })
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
      return toModel(row!, await new ModelStore(tx).#aliasesOf([registration.name]));
    });
  }

  async #aliasTarget(name: string, alias: string): Promise<number | null> {
    const [row] = await this.#database
      .select({ version: modelAliases.version })
      .from(modelAliases)
      .where(and(eq(modelAliases.name, name), eq(modelAliases.alias, alias)));
    return row?.version ?? null;
  }

  /** Aliases by `name@version`. */
  async #aliasesOf(names: readonly string[]): Promise<ReadonlyMap<string, string[]>> {
    const byModel = new Map<string, string[]>();
    if (names.length === 0) return byModel;
    const rows = await this.#database
      .select()
      .from(modelAliases)
      .where(inArray(modelAliases.name, [...new Set(names)]))
      .orderBy(asc(modelAliases.alias));
    for (const { name, alias, version } of rows)
      byModel.set(`${name}@${version}`, [...(byModel.get(`${name}@${version}`) ?? []), alias]);
    return byModel;
  }
}

function toModel(row: ModelRow, aliases: ReadonlyMap<string, string[]>): Model {
  const { manifest, revision, filesRemovedAt, createdAt, updatedAt, lineage, ...rest } = row;
  return {
    ...rest,
    lineage: { ...lineage, codeVersion: lineage.codeVersion ?? null },
    aliases: aliases.get(`${row.name}@${row.version}`) ?? [],
    manifest:
      manifest === null
        ? null
        : { digest: manifest.digest, keyId: manifest.signature.keyId, signedAt: manifest.signature.signedAt },
    filesRemovedAt: filesRemovedAt?.toISOString() ?? null,
    etag: `"${revision}"`,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}
