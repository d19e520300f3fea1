import { PreconditionFailedError } from "@drydock/kit";
import type { ModelStage } from "@drydock/spec";
import { asc, eq } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { modelNotFound } from "../store/model-store.ts";
import { models } from "../store/schema.ts";

/** What decides over a version's stage. */
export interface LockedVersion {
  readonly name: string;
  readonly version: number;
  readonly stage: ModelStage;
  readonly notes: string;
  readonly revision: number;
  readonly filesRemovedAt: Date | null;
}

/** All versions of a model, locked until the transaction ends, so that changes of one model wait for each other. */
export interface LockedModel {
  readonly name: string;
  /** Oldest first. */
  readonly versions: readonly LockedVersion[];
  readonly production: LockedVersion | null;
}

/** @throws NotFoundError `model_not_found` */
export async function lockVersions(tx: Database, name: string): Promise<LockedModel> {
  const { version, stage, notes, revision, filesRemovedAt } = models;
  // In one order, so that two who lock the same rows cannot wait for each other.
  const versions = await tx
    .select({ name: models.name, version, stage, notes, revision, filesRemovedAt })
    .from(models)
    .where(eq(models.name, name))
    .orderBy(asc(models.version))
    .for("update");
  if (versions.length === 0) throw modelNotFound(name, null);
  return { name, versions, production: versions.find((each) => each.stage === "production") ?? null };
}

/** @throws NotFoundError `model_not_found` */
export function versionOf(model: LockedModel, version: number): LockedVersion {
  const found = model.versions.find((each) => each.version === version);
  if (found === undefined) throw modelNotFound(model.name, version);
  return found;
}

/**
 * Fails when a version has changed since the caller read it.
 *
 * @param ifMatch  value of the `If-Match` header; nothing is checked without one, or with `*`
 * @throws PreconditionFailedError `model_changed`
 */
export function checkUnchanged(row: LockedVersion, ifMatch: string | undefined): void {
  if (ifMatch === undefined || ifMatch.trim() === "*") return;
  const accepted = ifMatch.split(",").map((tag) => tag.trim());
  if (!accepted.includes(`"${row.revision}"`))
    throw new PreconditionFailedError(
      "model_changed",
      `${row.name}@${row.version} has changed since you read it (it is in stage ${row.stage} now): read it again, then decide`,
    );
}
