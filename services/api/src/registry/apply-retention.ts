import { NotFoundError, type ObjectStorage } from "@drydock/kit";
import type { RetentionOutcome, RetentionRule } from "@drydock/spec";
import { and, asc, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { ModelStore } from "../store/model-store.ts";
import { models, retentionRules } from "../store/schema.ts";
import { decideRetention } from "./decide-retention.ts";
import { lockVersions } from "./lock-versions.ts";
import { appendModelEvent } from "./model-history.ts";
import { referencesOf } from "./model-references.ts";

/** @throws NotFoundError `no_retention_rule` */
export async function retentionRuleOf(
  database: Database,
  name: string,
): Promise<{ name: string; rule: RetentionRule; updatedAt: string }> {
  const [row] = await database.select().from(retentionRules).where(eq(retentionRules.name, name));
  if (row === undefined)
    throw new NotFoundError(
      "no_retention_rule",
      `model "${name}" has no retention rule, so every version is kept: set one with PUT /v1/models/${name}/retention`,
    );
  return { ...row, updatedAt: row.updatedAt.toISOString() };
}

/** Models whose rules are applied without being asked. */
export async function automaticRules(database: Database): Promise<string[]> {
  const rows = await database
    .select({ name: retentionRules.name })
    .from(retentionRules)
    .where(sql`${retentionRules.rule}->>'automatic' = 'true'`)
    .orderBy(asc(retentionRules.name));
  return rows.map(({ name }) => name);
}

/** Sets the rule of a model, in the caller's transaction. @throws NotFoundError `model_not_found` */
export async function setRetentionRule(tx: Database, name: string, rule: RetentionRule): Promise<void> {
  await new ModelStore(tx).get(name, null);
  const updatedAt = new Date();
  await tx
    .insert(retentionRules)
    .values({ name, rule, updatedAt })
    .onConflictDoUpdate({ target: retentionRules.name, set: { rule, updatedAt } });
}

/** What a rule would do now. @throws NotFoundError `model_not_found` */
export async function previewRetention(
  database: Database,
  name: string,
  rule: RetentionRule,
  now: Date,
): Promise<RetentionOutcome> {
  const versions = await new ModelStore(database).versions(name);
  const references = await referencesOf(database, name, versions);
  const candidates = versions.map((model) => ({ model, references: references.get(model.version) ?? [] }));
  const items = decideRetention(rule, candidates, now);
  const sizeBytes = items.reduce((total, item) => total + (item.decision === "remove" ? item.sizeBytes : 0), 0);
  return { name, rule, isApplied: false, items, sizeBytes };
}

/**
 * Marks the versions that the model's rule removes, in the caller's transaction, which holds every version of the model: whoever refers to one
 * meanwhile waits, and is then refused. Their files go after the transaction, see {@link removeMarkedFiles}.
 *
 * @throws NotFoundError `model_not_found`, `no_retention_rule`
 */
export async function markRemoved(
  tx: Database,
  { name, actor, now }: { readonly name: string; readonly actor: string; readonly now: Date },
): Promise<RetentionOutcome> {
  await lockVersions(tx, name);
  const { rule } = await retentionRuleOf(tx, name);
  const outcome = await previewRetention(tx, name, rule, now);
  const removed = outcome.items.filter(({ decision }) => decision === "remove");
  if (removed.length > 0)
    await tx
      .update(models)
      .set({ filesRemovedAt: now, updatedAt: now, revision: sql`${models.revision} + 1` })
      .where(
        and(
          eq(models.name, name),
          inArray(
            models.version,
            removed.map(({ version }) => version),
          ),
        ),
      );
  for (const { version, reasons } of removed)
    await appendModelEvent(tx, {
      name,
      version,
      key: `files-removed/${version}`,
      actor,
      type: "files.removed",
      from: null,
      to: null,
      message: `The retention rule removed the files: ${reasons.join(", ")}.`,
    });
  return { ...outcome, isApplied: true };
}

/** Removes the files of every version of a model that is marked. What an earlier try left behind goes too. */
export async function removeMarkedFiles(database: Database, storage: ObjectStorage, name: string): Promise<void> {
  const versions = await new ModelStore(database).versions(name);
  for (const { version, filesRemovedAt } of versions) {
    if (filesRemovedAt === null) continue;
    const keys: string[] = [];
    for await (const { key } of storage.list(`models/${name}/${version}/`)) keys.push(key);
    // The card is what says that a version is whole: it goes first.
    for (const key of keys.toSorted(
      (a, b) => Number(b.endsWith("/drydock.json")) - Number(a.endsWith("/drydock.json")),
    ))
      await storage.remove(key);
  }
}
