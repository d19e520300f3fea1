import type { Box } from "@drydock/spec";
import { intersectionOverUnion } from "./box-overlap.ts";

export interface ExpectedBox {
  readonly image: string | number;
  readonly category: string | number;
  readonly box: Box;
}

export interface DetectedBox extends ExpectedBox {
  /** Confidence; larger comes first, equal ones keep their order. */
  readonly score: number;
}

/** The twelve summary numbers of the COCO evaluation, 0..1; -1 where nothing is there to measure. */
export interface CocoStatistics {
  readonly ap: number;
  readonly ap50: number;
  readonly ap75: number;
  readonly apSmall: number;
  readonly apMedium: number;
  readonly apLarge: number;
  readonly ar1: number;
  readonly ar10: number;
  readonly ar100: number;
  readonly arSmall: number;
  readonly arMedium: number;
  readonly arLarge: number;
}

export const thresholds = Array.from({ length: 10 }, (_, index) => 0.5 + (index * 0.45) / 9);
export const recallPoints = Array.from({ length: 101 }, (_, index) => index * 0.01);
const areas = { all: [0, 1e10], small: [0, 32 ** 2], medium: [32 ** 2, 96 ** 2], large: [96 ** 2, 1e10] } as const;
type Area = keyof typeof areas;

export interface Evaluated {
  readonly scores: readonly number[];
  /** Per threshold: for each detection 1 = matched, 0 = not, null = ignored. */
  readonly outcomes: readonly (readonly (0 | 1 | null)[])[];
  readonly counted: number;
}

interface Measured {
  /** Per threshold; null for a category without a counted expectation. */
  readonly precisions: readonly number[];
  readonly recalls: readonly number[];
}

/**
 * Mean average precision as COCO computes it: IoU .50:.05:.95, 101 recall points, at most 1, 10 or 100 detections of a
 * picture and category, areas split at 32² and 96² (so boxes must be in pixels for the last nine numbers to mean
 * something; the first three do not depend on the unit). Crowd regions are not modelled.
 *
 * Source: cocoapi `PythonAPI/pycocotools/cocoeval.py`. Models that give no confidence get score 1 for every box; then
 * the result depends on the order of the boxes.
 */
export function meanAveragePrecision(
  expected: readonly ExpectedBox[],
  detected: readonly DetectedBox[],
): CocoStatistics {
  const categories = [...new Set([...expected, ...detected].map(({ category }) => category))];
  const measure = (area: Area, maximum: number): Measured[] =>
    categories
      .map((category) =>
        measureCategory(
          expected.filter((box) => box.category === category),
          detected.filter((box) => box.category === category),
          area,
          maximum,
        ),
      )
      .filter((measured) => measured !== null);
  const all = measure("all", 100);
  const [small, medium, large] = [measure("small", 100), measure("medium", 100), measure("large", 100)];
  return {
    ap: mean(all.flatMap(({ precisions }) => precisions)),
    ap50: mean(all.map(({ precisions }) => precisions[0] ?? 0)),
    ap75: mean(all.map(({ precisions }) => precisions[5] ?? 0)),
    apSmall: mean(small.flatMap(({ precisions }) => precisions)),
    apMedium: mean(medium.flatMap(({ precisions }) => precisions)),
    apLarge: mean(large.flatMap(({ precisions }) => precisions)),
    ar1: mean(measure("all", 1).flatMap(({ recalls }) => recalls)),
    ar10: mean(measure("all", 10).flatMap(({ recalls }) => recalls)),
    ar100: mean(all.flatMap(({ recalls }) => recalls)),
    arSmall: mean(small.flatMap(({ recalls }) => recalls)),
    arMedium: mean(medium.flatMap(({ recalls }) => recalls)),
    arLarge: mean(large.flatMap(({ recalls }) => recalls)),
  };
}

function mean(values: readonly number[]): number {
  return values.length === 0 ? -1 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

function measureCategory(
  expected: readonly ExpectedBox[],
  detected: readonly DetectedBox[],
  area: Area,
  maximum: number,
): Measured | null {
  const pictures = new Map<string | number, { expected: ExpectedBox[]; detected: DetectedBox[] }>();
  const of = (image: string | number): { expected: ExpectedBox[]; detected: DetectedBox[] } => {
    const known = pictures.get(image) ?? { expected: [], detected: [] };
    pictures.set(image, known);
    return known;
  };
  for (const box of expected) of(box.image).expected.push(box);
  for (const box of detected) of(box.image).detected.push(box);
  const evaluated = [...pictures.values()].map((picture) =>
    evaluatePicture(picture.expected, picture.detected, area, maximum),
  );
  const counted = evaluated.reduce((sum, picture) => sum + picture.counted, 0);
  if (counted === 0) return null;
  const measured = thresholds.map((_, threshold) => {
    const ranked = evaluated
      .flatMap(({ scores, outcomes }) =>
        scores.map((score, index) => ({ score, outcome: outcomes[threshold]?.[index] ?? null })),
      )
      .sort((first, second) => second.score - first.score);
    return curve(
      ranked.map(({ outcome }) => outcome),
      counted,
    );
  });
  return { precisions: measured.map(({ precision }) => precision), recalls: measured.map(({ recall }) => recall) };
}

export function evaluatePicture(
  expected: readonly ExpectedBox[],
  detected: readonly DetectedBox[],
  area: Area,
  maximum: number,
): Evaluated {
  // Ignored expectations go last, so that a counted one is preferred.
  const wanted = expected
    .map(({ box }) => ({ box, isIgnored: !isInside(box, area) }))
    .sort((a, b) => Number(a.isIgnored) - Number(b.isIgnored));
  const given = detected.toSorted((first, second) => second.score - first.score).slice(0, maximum);
  const overlaps = given.map(({ box }) => wanted.map((other) => intersectionOverUnion(box, other.box)));
  const outcomes = thresholds.map((threshold) => {
    const isTaken = wanted.map(() => false);
    return given.map(({ box }, index): 0 | 1 | null => {
      const match = bestMatch(overlaps[index] ?? [], wanted, isTaken, threshold);
      if (match === null) return isInside(box, area) ? 0 : null;
      isTaken[match] = true;
      return wanted[match]?.isIgnored ? null : 1;
    });
  });
  return {
    scores: given.map(({ score }) => score),
    outcomes,
    counted: wanted.filter(({ isIgnored }) => !isIgnored).length,
  };
}

/** The free expectation of the highest IoU; of equal ones the last. An ignored one only if no counted one fits. */
function bestMatch(
  overlaps: readonly number[],
  wanted: readonly { isIgnored: boolean }[],
  isTaken: readonly boolean[],
  threshold: number,
): number | null {
  let least = Math.min(threshold, 1 - 1e-10);
  let match: number | null = null;
  for (const [index, overlap] of overlaps.entries()) {
    if (isTaken[index]) continue;
    if (match !== null && !wanted[match]?.isIgnored && wanted[index]?.isIgnored) break;
    if (overlap < least) continue;
    least = overlap;
    match = index;
  }
  return match;
}

function isInside(box: Box, area: Area): boolean {
  const size = (box[2] - box[0]) * (box[3] - box[1]);
  return size >= areas[area][0] && size <= areas[area][1];
}

function curve(outcomes: readonly (0 | 1 | null)[], counted: number): { precision: number; recall: number } {
  const recalls: number[] = [];
  const precisions: number[] = [];
  let [hits, misses] = [0, 0];
  for (const outcome of outcomes) {
    if (outcome === 1) hits += 1;
    if (outcome === 0) misses += 1;
    recalls.push(hits / counted);
    precisions.push(hits / (hits + misses + Number.EPSILON));
  }
  for (let index = precisions.length - 2; index >= 0; index--) {
    precisions[index] = Math.max(precisions[index] ?? 0, precisions[index + 1] ?? 0);
  }
  let position = 0;
  let sum = 0;
  for (const point of recallPoints) {
    while (position < recalls.length && (recalls[position] ?? 0) < point) position += 1;
    sum += precisions[position] ?? 0;
  }
  return { precision: sum / recallPoints.length, recall: recalls.at(-1) ?? 0 };
}
