import type { Model, RetentionOutcome, RetentionRule } from "@drydock/spec";

/** A version, and what refers to it: a sentence each. */
export interface RetentionCandidate {
  readonly model: Model;
  readonly references: readonly string[];
}

const msPerDay = 86_400_000;

/**
 * Which versions of a model a rule keeps, and which it would remove, with the reasons. Nothing that is referred to is removed, whatever the
 * rule says.
 *
 * @param versions  all of the model
 */
export function decideRetention(
  rule: RetentionRule,
  versions: readonly RetentionCandidate[],
  now: Date,
): RetentionOutcome["items"] {
  const newestFirst = versions.toSorted((a, b) => b.model.version - a.model.version);
  const there = newestFirst.map(({ model }) => model).filter(({ filesRemovedAt }) => filesRemovedAt === null);
  const newest = new Set(there.slice(0, rule.keepLast).map(({ version }) => version));
  const best = bestOf(rule, there);
  return newestFirst.map(({ model, references }) => {
    const { version, filesRemovedAt } = model;
    const sizeBytes = model.files.reduce((total, file) => total + file.sizeBytes, 0);
    if (filesRemovedAt !== null)
      return { version, decision: "removed-before", reasons: [`removed on ${filesRemovedAt.slice(0, 10)}`], sizeBytes };
    const kept = [...byRule(rule, model, now, newest, best), ...references];
    if (kept.length > 0) return { version, decision: "keep", reasons: kept, sizeBytes };
    const reason = `in stage ${model.stage}, older than ${rule.minimumAgeDays} days, not among the newest ${rule.keepLast}, and nothing refers to it`;
    return { version, decision: "remove", reasons: [reason], sizeBytes };
  });
}

function byRule(
  rule: RetentionRule,
  { version, stage, createdAt }: Model,
  now: Date,
  newest: ReadonlySet<number>,
  best: ReadonlySet<number>,
): string[] {
  const reasons: string[] = [];
  if (stage === "production" || rule.keepStages.includes(stage)) reasons.push(`in stage ${stage}`);
  if (newest.has(version)) reasons.push(`among the newest ${rule.keepLast}`);
  if (best.has(version)) reasons.push(`among the best ${rule.keepBest?.count} by ${rule.keepBest?.metric}`);
  const ageDays = (now.getTime() - Date.parse(createdAt)) / msPerDay;
  if (ageDays < rule.minimumAgeDays) reasons.push(`younger than ${rule.minimumAgeDays} days`);
  return reasons;
}

function bestOf({ keepBest }: RetentionRule, models: readonly Model[]): ReadonlySet<number> {
  if (keepBest === undefined) return new Set();
  const scored = models.flatMap(({ version, lineage }) => {
    const score = lineage.scores.after?.[keepBest.metric];
    return score === undefined ? [] : [{ version, score }];
  });
  const best = scored.toSorted((a, b) => b.score - a.score || b.version - a.version).slice(0, keepBest.count);
  return new Set(best.map(({ version }) => version));
}
