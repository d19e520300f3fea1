import { ConflictError, UnprocessableError } from "@drydock/kit";
import { stageMove, type PromotionResult } from "@drydock/spec";
import { and, eq } from "drizzle-orm";
import { refuseRemoved } from "../planning/model-directory.ts";
import type { Database } from "../store/database.ts";
import { models } from "../store/schema.ts";
import { checkUnchanged, lockVersions, versionOf, type LockedModel, type LockedVersion } from "./lock-versions.ts";
import { findModelEvent } from "./model-history.ts";
import { changeProduction } from "./production.ts";

export interface Promotion {
  readonly name: string;
  readonly version: number;
  readonly to: "production";
  readonly actor: string;
  /** The same key promotes once, whatever happened since. */
  readonly key: string;
  /** Why; part of the history. */
  readonly message: string;
  /** Digest of the manifest that the files were verified against, see `ModelVerifier`: refused when it is another by now. */
  readonly manifestDigest?: string | undefined;
  /** What must be in production still; null: nothing. Absent: whatever is. */
  readonly expected?: number | null | undefined;
  /** ETag of the version as the caller read it. */
  readonly ifMatch?: string | undefined;
}

/**
 * Puts a version into production, in the caller's transaction: its stage, the alias `production`, the version before (archived) and the
 * history. Promotions of one model wait for each other. The files must have been verified before: hashing gigabytes has no place in a
 * transaction.
 *
 * @throws NotFoundError `model_not_found`
 * @throws UnprocessableError `stage_refused`
 * @throws ConflictError `model_files_removed`, `manifest_changed`, `production_changed`
 * @throws PreconditionFailedError `model_changed`
 */
export async function promoteModel(tx: Database, promotion: Promotion): Promise<PromotionResult> {
  const { name, version, to, actor, key, message } = promotion;
  const model = await lockVersions(tx, name);
  const done = await findModelEvent(tx, name, key);
  if (done !== null) return replayOf(done, model.production?.version ?? version);
  const target = versionOf(model, version);
  checkUnchanged(target, promotion.ifMatch);
  checkExpected(model, promotion.expected);
  const move = stageMove(`${name}@${version}`, target.stage, to);
  if (move.kind === "refused") throw stageRefused(move.message);
  refuseRemoved(withTime(target));
  await checkManifestIs(tx, target, promotion.manifestDigest);
  await changeProduction(tx, model, { type: "model.promoted", target, actor, key, message });
  const previous = model.production?.version ?? null;
  return { name, version, previous, isChanged: previous !== version, isReplay: false };
}

function checkExpected({ name, production }: LockedModel, expected: number | null | undefined): void {
  const present = production?.version ?? null;
  if (expected === undefined || expected === present) return;
  const [was, is] = [expected, present].map((version) => (version === null ? "nothing" : `${name}@${version}`));
  throw new ConflictError("production_changed", `${is} is in production by now, not ${was}: compare with that first`);
}

/** What the first call with a key answered. */
export function replayOf(
  { name, from, to }: { readonly name: string; readonly from: string | null; readonly to: string | null },
  present: number,
): PromotionResult {
  const previous = from === null ? null : Number(from);
  const version = to === null ? present : Number(to);
  return { name, version, previous, isChanged: previous !== version, isReplay: true };
}

export function stageRefused(message: string): UnprocessableError {
  return new UnprocessableError("stage_refused", message, {
    details: [{ path: "to", code: "stage_refused", message }],
  });
}

/** A locked row as {@link refuseRemoved} wants it. */
export function withTime({ name, version, filesRemovedAt }: LockedVersion) {
  return { name, version, filesRemovedAt: filesRemovedAt?.toISOString() ?? null };
}

async function checkManifestIs(
  tx: Database,
  { name, version }: LockedVersion,
  digest: string | undefined,
): Promise<void> {
  if (digest === undefined) return;
  const [row] = await tx
    .select({ manifest: models.manifest })
    .from(models)
    .where(and(eq(models.name, name), eq(models.version, version)));
  if (row?.manifest?.digest !== digest)
    throw new ConflictError(
      "manifest_changed",
      `the manifest of ${name}@${version} was signed anew while its files were being verified: promote it again`,
    );
}
