import { ConflictError } from "@drydock/kit";
import { rollbackTarget, type PromotionResult } from "@drydock/spec";
import { refuseRemoved } from "../planning/model-directory.ts";
import type { Database } from "../store/database.ts";
import { lockVersions, versionOf } from "./lock-versions.ts";
import { findModelEvent, productionEventsOf } from "./model-history.ts";
import { changeProduction } from "./production.ts";
import { replayOf, withTime } from "./promote-model.ts";

export interface Rollback {
  readonly name: string;
  readonly actor: string;
  /** The same key rolls back once, whatever happened since. */
  readonly key: string;
  /** Why; part of the history. */
  readonly message: string;
  /** Rolls back only while this version is in production: a decision over an older one comes too late. */
  readonly from?: number | undefined;
}

/**
 * Puts the version into production that was there before the present one, in the caller's transaction; the present one is archived.
 * A second rollback goes one further back. Waits for promotions of the same model that are under way.
 *
 * @throws NotFoundError `model_not_found`
 * @throws ConflictError `nothing_to_roll_back_to`, `production_changed`, `model_files_removed`
 */
export async function rollBack(tx: Database, rollback: Rollback): Promise<PromotionResult> {
  const { name, actor, key, message } = rollback;
  const model = await lockVersions(tx, name);
  const previous = model.production?.version ?? null;
  const done = await findModelEvent(tx, name, key);
  if (done !== null) return replayOf(done, previous ?? 1);
  if (rollback.from !== undefined && rollback.from !== previous)
    throw new ConflictError(
      "production_changed",
      `${name}@${rollback.from} is no longer in production (${previous === null ? "no version" : `${name}@${previous}`} is): nothing was rolled back`,
    );
  const version = rollbackTarget(await productionEventsOf(tx, name));
  if (version === null)
    throw new ConflictError(
      "nothing_to_roll_back_to",
      previous === null
        ? `no version of ${name} has been in production: promote one with POST /v1/models/${name}/versions/{version}/stage`
        : `no version of ${name} was in production before ${name}@${previous}: promote another one, or archive this one`,
    );
  const target = versionOf(model, version);
  refuseRemoved(withTime(target));
  await changeProduction(tx, model, { type: "model.rolled-back", target, actor, key, message });
  return { name, version, previous, isChanged: true, isReplay: false };
}
