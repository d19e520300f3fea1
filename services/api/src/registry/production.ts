import { productionAlias, type ModelEventType, type ModelStage } from "@drydock/spec";
import { and, eq, sql } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { modelAliases, models } from "../store/schema.ts";
import type { LockedModel, LockedVersion } from "./lock-versions.ts";
import { appendModelEvent } from "./model-history.ts";

/** Who changes what is in production, and why. */
export interface ProductionChange {
  readonly type: Extract<ModelEventType, "model.promoted" | "model.rolled-back" | "model.retired">;
  /** Null: no version is in production afterwards. */
  readonly target: LockedVersion | null;
  readonly actor: string;
  readonly key: string;
  readonly message: string;
}

/**
 * Puts a version into production, or none: its stage, the alias, the version before and both events together, so that the alias
 * `production` is the version whose stage is that at any time.
 */
export async function changeProduction(tx: Database, model: LockedModel, change: ProductionChange): Promise<void> {
  const { name, production: previous } = model;
  const { type, target, actor, key } = change;
  const isChanged = previous?.version !== target?.version;
  const subject = target ?? previous;
  if (subject === null) return;
  await appendModelEvent(tx, {
    name,
    version: subject.version,
    key,
    actor,
    type,
    from: previous === null ? null : String(previous.version),
    to: target === null ? null : String(target.version),
    message: sentenceOf(name, previous, change),
  });
  if (!isChanged) return;
  if (previous !== null) {
    await setStage(tx, previous, "archived");
    if (target !== null)
      await appendModelEvent(tx, {
        name,
        version: previous.version,
        key: `${key}/archived`,
        actor,
        type: "stage.changed",
        from: "production",
        to: "archived",
        message: `${name}@${target.version} took its place in production.`,
      });
  }
  if (target !== null) await setStage(tx, target, "production");
  await pointProductionAt(tx, name, target, actor);
}

/** Changes a stage, and nothing else. */
export async function setStage(
  tx: Database,
  { name, version }: Pick<LockedVersion, "name" | "version">,
  stage: ModelStage,
): Promise<void> {
  await tx
    .update(models)
    .set({ stage, updatedAt: new Date(), revision: sql`${models.revision} + 1` })
    .where(and(eq(models.name, name), eq(models.version, version)));
}

async function pointProductionAt(
  tx: Database,
  name: string,
  target: LockedVersion | null,
  actor: string,
): Promise<void> {
  if (target === null) {
    await tx.delete(modelAliases).where(and(eq(modelAliases.name, name), eq(modelAliases.alias, productionAlias)));
    return;
  }
  const values = { version: target.version, updatedAt: new Date(), updatedBy: actor };
  await tx
    .insert(modelAliases)
    .values({ name, alias: productionAlias, ...values })
    .onConflictDoUpdate({ target: [modelAliases.name, modelAliases.alias], set: values });
}

function sentenceOf(name: string, previous: LockedVersion | null, { type, target, message }: ProductionChange): string {
  const said = message === "" ? "" : ` ${message}`;
  if (target === null) return `${name}@${previous?.version} left production, and no version took its place.${said}`;
  if (previous?.version === target.version) return `${name}@${target.version} was in production already.${said}`;
  const before = previous === null ? "no version was there before" : `${name}@${previous.version} was there before`;
  const verb = type === "model.rolled-back" ? "is back in production" : "is in production";
  return `${name}@${target.version} ${verb}; ${before}.${said}`;
}
