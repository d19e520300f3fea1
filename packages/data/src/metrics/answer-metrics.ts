import { normaliseAnswer } from "./normalise-answer.ts";

/**
 * 1 when the normalised answer equals one of the normalised references, else 0. Answers that normalise to nothing
 * (`the`) are compared as written, trimmed and in lower case, so that two different ones do not count as equal.
 */
export function exactMatch(answer: string, references: readonly string[]): number {
  const wanted = comparable(answer);
  return references.some((reference) => comparable(reference) === wanted) ? 1 : 0;
}

function comparable(text: string): string {
  const normalised = normaliseAnswer(text);
  return normalised === "" ? text.trim().toLowerCase() : normalised;
}

/**
 * VQA accuracy, 0..1: the mean, over the subsets that leave one reference out, of min(1, matches / 3).
 *
 * Two choices where the reference code surprises: answers are always normalised (it does so only when the references
 * differ), and a single reference counts as ten equal ones (it would always score 0), which makes this the normalised
 * exact match. Subsets leave out by position, as VLMEvalKit does.
 *
 * Source: VQA `PythonEvaluationTools/vqaEvaluation/vqaEval.py`.
 */
export function vqaAccuracy(answer: string, references: readonly string[]): number {
  const [only] = references;
  if (only === undefined) return 0;
  const all = references.length === 1 ? Array.from({ length: 10 }, () => only) : references;
  const wanted = comparable(answer);
  const matches = all.map((reference): number => (comparable(reference) === wanted ? 1 : 0));
  const total = matches.reduce((sum, match) => sum + match, 0);
  return matches.reduce((sum, own) => sum + Math.min(1, (total - own) / 3), 0) / all.length;
}

/**
 * Average normalised Levenshtein similarity of one answer, 0..1: 1 − the smallest distance / longer length over the
 * references, and 0 below 0.5. The lengths are those of the texts as written, before lower-casing and joining spaces.
 *
 * Source: `anls` of lmms-eval `api/metrics.py`.
 */
export function anls(answer: string, references: readonly string[]): number {
  const distances = references.map((reference) => {
    const longer = Math.max(codePoints(reference).length, codePoints(answer).length);
    return longer === 0 ? 0 : levenshtein(joinSpaces(reference), joinSpaces(answer)) / longer;
  });
  const similarity = 1 - Math.min(1, ...distances);
  return similarity < 0.5 ? 0 : similarity;
}

function joinSpaces(text: string): string {
  return text.trim().toLowerCase().split(/\s+/).join(" ");
}

function codePoints(text: string): string[] {
  return Array.from(text);
}

/** Fewest insertions, deletions and replacements of one character that turn one text into the other. */
export function levenshtein(from: string, to: string): number {
  const target = codePoints(to);
  let row = Array.from({ length: target.length + 1 }, (_, index) => index);
  for (const [index, character] of codePoints(from).entries()) {
    const next = [index + 1];
    for (const [column, other] of target.entries()) {
      const replaced = (row[column] ?? 0) + (character === other ? 0 : 1);
      next.push(Math.min(replaced, (row[column + 1] ?? 0) + 1, (next[column] ?? 0) + 1));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/**
 * Relaxed accuracy of one answer (charts): 1 when both are numbers and the answer is within 5 % of the reference, or when
 * the texts are equal but for case. `12%` reads as 0.12. A reference of 0, and numbers written with thousands commas,
 * are compared as text, as the reference code does.
 *
 * Source: `relaxed_correctness` of lmms-eval `tasks/chartqa/utils.py`.
 */
export function relaxedAccuracy(answer: string, references: readonly string[]): number {
  return references.some((reference) => isWithinFivePercent(answer, reference)) ? 1 : 0;
}

function isWithinFivePercent(answer: string, reference: string): boolean {
  const [given, wanted] = [toNumber(answer), toNumber(reference)];
  if (given !== null && wanted !== null && wanted !== 0) return Math.abs(given - wanted) / Math.abs(wanted) <= 0.05;
  return answer.toLowerCase() === reference.toLowerCase();
}

function toNumber(text: string): number | null {
  const trimmed = text.trim();
  const matched = /^([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(%?)$/i.exec(trimmed);
  if (!matched) return null;
  return Number(matched[1]) / (matched[2] === "%" ? 100 : 1);
}
