import { UnprocessableError, newId } from "@drydock/kit";
import { aliasRefusal, stageMove, type AliasTarget, type ModelStage } from "@drydock/spec";
import { and, asc, eq, sql } from "drizzle-orm";
import { refuseRemoved } from "../planning/model-directory.ts";
import type { Database } from "../store/database.ts";
import { modelNotFound } from "../store/model-store.ts";
import { modelAliases, models } from "../store/schema.ts";
import { checkUnchanged, lockVersions, versionOf, type LockedVersion } from "./lock-versions.ts";
import { appendModelEvent } from "./model-history.ts";
import { changeProduction, setStage } from "./production.ts";
import { stageRefused, withTime } from "./promote-model.ts";

/** Which version is changed, by whom, and as they know it. */
export interface Change {
  readonly name: string;
  readonly version: number;
  readonly actor: string;
  readonly ifMatch: string | undefined;
}

/**
 * Moves a version to a stage other than production, in the caller's transaction. Asking for what is so already changes nothing.
 *
 * @throws NotFoundError `model_not_found`
 * @throws UnprocessableError `stage_refused`
 * @throws ConflictError `model_files_removed`
 * @throws PreconditionFailedError `model_changed`
 */
export async function changeStage(
  tx: Database,
  change: Change & { readonly to: Exclude<ModelStage, "production">; readonly message: string },
): Promise<{ isChanged: boolean }> {
  const { name, version, to, actor, message } = change;
  const model = await lockVersions(tx, name);
  const row = versionOf(model, version);
  checkUnchanged(row, change.ifMatch);
  const move = stageMove(`${name}@${version}`, row.stage, to);
  if (move.kind === "none") return { isChanged: false };
  if (move.kind === "refused") throw stageRefused(move.message);
  const key = newId("event");
  if (move.kind === "retire") {
    await changeProduction(tx, model, { type: "model.retired", target: null, actor, key, message });
    return { isChanged: true };
  }
  if (to !== "archived") refuseRemoved(withTime(row));
  await setStage(tx, row, to);
  await appendModelEvent(tx, { name, version, key, actor, type: "stage.changed", from: row.stage, to, message });
  return { isChanged: true };
}

/** Replaces the notes of a version, in the caller's transaction. @throws as {@link changeStage} */
export async function changeNotes(
  tx: Database,
  change: Change & { readonly notes: string },
): Promise<{ isChanged: boolean }> {
  const { name, version, notes, actor } = change;
  const row = versionOf(await lockVersions(tx, name), version);
  checkUnchanged(row, change.ifMatch);
  if (row.notes === notes) return { isChanged: false };
  await tx
    .update(models)
    .set({ notes, updatedAt: new Date(), revision: sql`${models.revision} + 1` })
    .where(and(eq(models.name, name), eq(models.version, version)));
  const message = notes === "" ? "The notes were removed." : "The notes were changed.";
  await appendModelEvent(tx, {
    name,
    version,
    key: newId("event"),
    actor,
    type: "notes.changed",
    from: null,
    to: null,
    message,
  });
  return { isChanged: true };
}

/**
 * Points an alias at a version, in the caller's transaction.
 *
 * @throws NotFoundError `model_not_found`
 * @throws UnprocessableError `alias_refused` for a reserved word
 * @throws ConflictError `model_files_removed`
 */
export async function setAlias(
  tx: Database,
  change: Change & { readonly alias: string },
): Promise<{ isChanged: boolean }> {
  const { name, version, alias, actor } = change;
  refuseReserved(name, alias);
  const model = await lockVersions(tx, name);
  const row = versionOf(model, version);
  checkUnchanged(row, change.ifMatch);
  refuseRemoved(withTime(row));
  const before = await aliasTarget(tx, name, alias);
  if (before === version) return { isChanged: false };
  const values = { version, updatedAt: new Date(), updatedBy: actor };
  await tx
    .insert(modelAliases)
    .values({ name, alias, ...values })
    .onConflictDoUpdate({ target: [modelAliases.name, modelAliases.alias], set: values });
  await touch(tx, [row, ...model.versions.filter((each) => each.version === before)]);
  await appendModelEvent(tx, {
    name,
    version,
    key: newId("event"),
    actor,
    type: "alias.moved",
    from: before === null ? null : String(before),
    to: String(version),
    message: `The alias "${alias}" means ${name}@${version} now${before === null ? "" : `, and ${name}@${before} before`}.`,
  });
  return { isChanged: true };
}

/** Removes an alias. @throws NotFoundError `model_not_found`; UnprocessableError `alias_refused` */
export async function removeAlias(
  tx: Database,
  { name, alias, actor }: { readonly name: string; readonly alias: string; readonly actor: string },
): Promise<{ version: number }> {
  refuseReserved(name, alias);
  const model = await lockVersions(tx, name);
  const version = await aliasTarget(tx, name, alias);
  if (version === null) throw modelNotFound(name, alias);
  await tx.delete(modelAliases).where(and(eq(modelAliases.name, name), eq(modelAliases.alias, alias)));
  await touch(tx, [versionOf(model, version)]);
  await appendModelEvent(tx, {
    name,
    version,
    key: newId("event"),
    actor,
    type: "alias.removed",
    from: String(version),
    to: null,
    message: `The alias "${alias}" of ${name}@${version} was removed.`,
  });
  return { version };
}

/** Aliases of a model, by name. */
export async function listAliases(database: Database, name: string): Promise<AliasTarget[]> {
  const rows = await database
    .select()
    .from(modelAliases)
    .where(eq(modelAliases.name, name))
    .orderBy(asc(modelAliases.alias));
  return rows.map(({ alias, version, updatedAt, updatedBy }) => ({
    alias,
    version,
    updatedAt: updatedAt.toISOString(),
    updatedBy,
  }));
}

/**
 * Holds a version that is about to be referred to: a retention rule waits until the transaction ends, and then sees the reference.
 *
 * @param reference  `name@3`; anything else is no version of ours, and is let through
 * @throws ConflictError `model_files_removed`
 */
export async function holdModel(tx: Database, reference: unknown): Promise<void> {
  const match = typeof reference === "string" ? /^([^@]+)@([1-9][0-9]*)$/.exec(reference) : null;
  if (match === null) return;
  const [row] = await tx
    .select({ name: models.name, version: models.version, filesRemovedAt: models.filesRemovedAt })
    .from(models)
    .where(and(eq(models.name, match[1]!), eq(models.version, Number(match[2]))))
    .for("share");
  if (row !== undefined) refuseRemoved({ ...row, filesRemovedAt: row.filesRemovedAt?.toISOString() ?? null });
}

function refuseReserved(name: string, alias: string): void {
  const message = aliasRefusal(name, alias);
  if (message === null) return;
  throw new UnprocessableError("alias_refused", message, {
    details: [{ path: "alias", code: "alias_refused", message }],
  });
}

async function aliasTarget(tx: Database, name: string, alias: string): Promise<number | null> {
  const [row] = await tx
    .select({ version: modelAliases.version })
    .from(modelAliases)
    .where(and(eq(modelAliases.name, name), eq(modelAliases.alias, alias)));
  return row?.version ?? null;
}

/** Gives versions a new ETag: their aliases have changed. */
async function touch(tx: Database, rows: readonly LockedVersion[]): Promise<void> {
  for (const { name, version } of rows)
    await tx
      .update(models)
      .set({ updatedAt: new Date(), revision: sql`${models.revision} + 1` })
      .where(and(eq(models.name, name), eq(models.version, version)));
}
