import type { ModelStage } from "./model.ts";
import type { CheckedManifest, ModelProblem, ModelVerification } from "./registry.ts";

/** What a move of a version to another stage means. */
export type StageMove =
  | { readonly kind: "none" }
  /** Only the stage changes. */
  | { readonly kind: "move" }
  /** The alias `production` comes, and the version before is archived. */
  | { readonly kind: "promote" }
  /** The alias `production` goes, and nothing takes its place. */
  | { readonly kind: "retire" }
  | { readonly kind: "refused"; readonly message: string };

/** @param model  `name@version`, for sentences */
export function stageMove(model: string, from: ModelStage, to: ModelStage): StageMove {
  if (from === to) return { kind: "none" };
  if (from === "production")
    return to === "archived"
      ? { kind: "retire" }
      : {
          kind: "refused",
          message: `${model} is in production and cannot go to ${to}: promote another version, roll back, or archive it`,
        };
  if (to !== "production") return { kind: "move" };
  return from === "archived"
    ? {
        kind: "refused",
        message: `${model} is archived and cannot go to production at once: move it to staging first, or roll back if it was the version in production before`,
      }
    : { kind: "promote" };
}

/** What of a model's history says which version was in production when. */
export interface ProductionEvent {
  readonly kind: "promoted" | "rolled-back" | "retired";
  /** Null when none was in production. */
  readonly from: number | null;
  readonly to: number | null;
}

/**
 * The version that a rollback goes back to: the one that was in production before the present one. After a rollback it is the one
 * before that; a version that was rolled back from is not gone back to.
 *
 * @param events  oldest first
 * @returns null when there was none
 */
export function rollbackTarget(events: readonly ProductionEvent[]): number | null {
  const stack: (number | null)[] = [];
  for (const { kind, from, to } of events) {
    if (from === to) continue;
    if (kind === "rolled-back") {
      stack.pop();
      if (stack.at(-1) !== to) stack.push(to);
      continue;
    }
    if (stack.at(-1) === null) stack.pop();
    // Going forward to the version before it again (1, 2, 1) is a step like any other.
    stack.push(to);
  }
  return stack.at(-2) ?? null;
}

/** What comparing a version's manifest, and its files with that, has come to. */
export function verificationOf(
  { name, version }: Pick<ModelVerification, "name" | "version">,
  { manifestDigest, keyId, files, problems }: CheckedManifest,
  damaged: readonly ModelProblem[],
  now: Date = new Date(),
): ModelVerification {
  const found = [...problems, ...damaged];
  return {
    name,
    version,
    isSound: found.length === 0,
    manifestDigest,
    keyId,
    files: files.length,
    sizeBytes: files.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
    problems: found,
    checkedAt: now.toISOString(),
  };
}

/** Why a version with such files may not go to production: a sentence that names each file; null when it may. */
export function damageOf({ name, version, isSound, problems }: ModelVerification): string | null {
  if (isSound) return null;
  return `${name}@${version} cannot go to production: ${problems.map(({ message }) => message).join("; ")}`;
}
