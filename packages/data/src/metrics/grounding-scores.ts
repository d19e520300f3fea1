import type { Box, Grounding } from "@drydock/spec";
import { assign } from "./assign.ts";
import { intersectionOverUnion } from "./box-overlap.ts";

/** What a picture should hold and what the model found, boxes as fractions 0..1. */
export interface GroundingPair {
  readonly expected: readonly Grounding[];
  readonly answered: readonly Grounding[];
}

export interface DetectionCounts {
  truePositives: number;
  falsePositives: number;
  falseNegatives: number;
}

export interface DetectionRates {
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
}

/** A phrase as it is compared: lower case, spaces joined, no mark at the end. */
export function phraseKey(phrase: string): string {
  return phrase
    .normalize("NFKC")
    .toLowerCase()
    .trim()
    .replaceAll(/\s+/g, " ")
    .replace(/[.,;:!?]+$/, "");
}

/** Boxes by phrase; phrases that differ only in case or spacing are one. */
export function boxesByPhrase(groundings: readonly Grounding[]): Map<string, Box[]> {
  const boxes = new Map<string, Box[]>();
  for (const grounding of groundings) {
    const key = phraseKey(grounding.phrase);
    boxes.set(key, [...(boxes.get(key) ?? []), ...grounding.boxes]);
  }
  return boxes;
}

/**
 * Counts of one picture by phrase. Boxes of a phrase are matched one to one so that the number of pairs with
 * IoU ≥ `threshold` is largest, then their total IoU. A matched pair is a true positive, a leftover answer a false
 * positive, a leftover expectation a false negative. A phrase that was not asked for has only false positives.
 */
export function countDetections(pair: GroundingPair, threshold: number): Map<string, DetectionCounts> {
  const expected = boxesByPhrase(pair.expected);
  const answered = boxesByPhrase(pair.answered);
  const counts = new Map<string, DetectionCounts>();
  for (const phrase of new Set([...expected.keys(), ...answered.keys()])) {
    const [wanted, given] = [expected.get(phrase) ?? [], answered.get(phrase) ?? []];
    const truePositives = countMatches(wanted, given, threshold);
    counts.set(phrase, {
      truePositives,
      falsePositives: given.length - truePositives,
      falseNegatives: wanted.length - truePositives,
    });
  }
  return counts;
}

function countMatches(wanted: readonly Box[], given: readonly Box[], threshold: number): number {
  const overlaps = wanted.map((box) => given.map((other) => intersectionOverUnion(box, other)));
  // A pair over the threshold outweighs the total IoU of all others, so their number is maximised first.
  const weights = overlaps.map((row) => row.map((iou) => (iou >= threshold ? wanted.length + given.length + iou : 0)));
  return assign(weights).filter((column, row) => column !== null && (overlaps[row]?.[column] ?? 0) >= threshold).length;
}

/**
 * Precision, recall and F1, 0..1. Nothing expected and nothing answered is right: all three are 1. Where only one side is
 * empty the ratio without a denominator is 0.
 */
export function ratesOf({ truePositives, falsePositives, falseNegatives }: DetectionCounts): DetectionRates {
  if (truePositives + falsePositives + falseNegatives === 0) return { precision: 1, recall: 1, f1: 1 };
  const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);
  return {
    precision: ratio(truePositives, truePositives + falsePositives),
    recall: ratio(truePositives, truePositives + falseNegatives),
    f1: ratio(2 * truePositives, 2 * truePositives + falsePositives + falseNegatives),
  };
}

/** Sum of several counts. */
export function addCounts(all: Iterable<DetectionCounts>): DetectionCounts {
  const total: DetectionCounts = { truePositives: 0, falsePositives: 0, falseNegatives: 0 };
  for (const counts of all) {
    total.truePositives += counts.truePositives;
    total.falsePositives += counts.falsePositives;
    total.falseNegatives += counts.falseNegatives;
  }
  return total;
}

/** Micro rates: counts of all pictures and phrases pooled. */
export function microRates(pairs: readonly GroundingPair[], threshold: number): DetectionRates {
  return ratesOf(addCounts(pairs.flatMap((pair) => [...countDetections(pair, threshold).values()])));
}

/** Macro rates: the mean over phrases of the rates of each phrase's pooled counts. */
export function macroRates(pairs: readonly GroundingPair[], threshold: number): DetectionRates {
  const byPhrase = new Map<string, DetectionCounts[]>();
  for (const pair of pairs) {
    for (const [phrase, counts] of countDetections(pair, threshold)) {
      byPhrase.set(phrase, [...(byPhrase.get(phrase) ?? []), counts]);
    }
  }
  const rates = [...byPhrase.values()].map((counts) => ratesOf(addCounts(counts)));
  if (rates.length === 0) return ratesOf(addCounts([]));
  const mean = (pick: (rate: DetectionRates) => number): number =>
    rates.reduce((sum, rate) => sum + pick(rate), 0) / rates.length;
  return {
    precision: mean((rate) => rate.precision),
    recall: mean((rate) => rate.recall),
    f1: mean((rate) => rate.f1),
  };
}

/**
 * IoU of each expected box with the answer it is matched to (one to one by phrase, largest total IoU; 0 without a match).
 * The mean of these is the mean IoU. Surplus answers do not lower it: read it next to F1.
 */
export function matchedOverlaps(pair: GroundingPair): number[] {
  const answered = boxesByPhrase(pair.answered);
  return [...boxesByPhrase(pair.expected)].flatMap(([phrase, wanted]) => {
    const given = answered.get(phrase) ?? [];
    const overlaps = wanted.map((box) => given.map((other) => intersectionOverUnion(box, other)));
    return assign(overlaps).map((column, row) => (column === null ? 0 : (overlaps[row]?.[column] ?? 0)));
  });
}
