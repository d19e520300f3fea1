import {
  evaluatePicture,
  recallPoints,
  thresholds,
  type CocoStatistics,
  type ExpectedBox,
} from "./mean-average-precision.ts";

/** Boxes of one picture; none has a confidence. */
export interface PictureBoxes {
  readonly expected: readonly ExpectedBox[];
  readonly detected: readonly ExpectedBox[];
}

/** What one category of one picture adds, one bit a threshold. */
interface Part {
  readonly category: number;
  readonly counted: number;
  /** Of each detection: at which thresholds it met an expectation, and at which it met none. */
  readonly hits: Uint16Array;
  readonly misses: Uint16Array;
}

/** The detections of one category in the pictures chosen, in their order. */
interface Ranking {
  counted: number;
  length: number;
  readonly hits: number[];
  readonly misses: number[];
}

/**
 * `ap` and `ap50` of any choice of these pictures, as `meanAveragePrecision` gives them when every detection has confidence 1:
 * boxes are matched once, and a choice only ranks the detections again. A picture chosen twice counts as two pictures.
 */
export function prepareUnrankedPrecision(
  pictures: readonly PictureBoxes[],
): (rows: Int32Array) => Pick<CocoStatistics, "ap" | "ap50"> {
  const numbers = new Map<string | number, number>();
  const parts = pictures.map((picture) => partsOf(picture, numbers));
  const rankings = Array.from({ length: numbers.size }, (): Ranking => ({
    counted: 0,
    length: 0,
    hits: [],
    misses: [],
  }));
  return (rows) => {
    for (const ranking of rankings) ranking.counted = ranking.length = 0;
    for (const row of rows) for (const part of parts[row] ?? []) append(rankings[part.category], part);
    let [all, half, categories] = [0, 0, 0];
    for (const ranking of rankings) {
      if (ranking.counted === 0) continue;
      categories += 1;
      for (let threshold = 0; threshold < thresholds.length; threshold++) {
        const precision = averagePrecisionAt(ranking, threshold);
        all += precision;
        if (threshold === 0) half += precision;
      }
    }
    if (categories === 0) return { ap: -1, ap50: -1 };
    return { ap: all / (categories * thresholds.length), ap50: half / categories };
  };
}

function partsOf({ expected, detected }: PictureBoxes, numbers: Map<string | number, number>): Part[] {
  const categories = new Set([...expected, ...detected].map(({ category }) => category));
  return [...categories].map((category): Part => {
    const number = numbers.get(category) ?? numbers.size;
    numbers.set(category, number);
    const { counted, outcomes } = evaluatePicture(
      expected.filter((box) => box.category === category),
      detected.filter((box) => box.category === category).map((box) => ({ ...box, score: 1 })),
      "all",
      100,
    );
    const length = outcomes[0]?.length ?? 0;
    const bitsOf = (outcome: 0 | 1): Uint16Array =>
      Uint16Array.from({ length }, (_, index) =>
        outcomes.reduce((bits, row, threshold) => (row[index] === outcome ? bits | (1 << threshold) : bits), 0),
      );
    return { category: number, counted, hits: bitsOf(1), misses: bitsOf(0) };
  });
}

function append(ranking: Ranking | undefined, { counted, hits, misses }: Part): void {
  if (!ranking) return;
  ranking.counted += counted;
  for (let index = 0; index < hits.length; index++) {
    ranking.hits[ranking.length] = hits[index] ?? 0;
    ranking.misses[ranking.length] = misses[index] ?? 0;
    ranking.length += 1;
  }
}

/** The mean over 101 recalls of the best precision at that recall or a larger one. */
function averagePrecisionAt({ counted, length, hits, misses }: Ranking, threshold: number): number {
  const precisions = new Float64Array(length);
  const found = new Float64Array(length);
  let [right, wrong] = [0, 0];
  for (let index = 0; index < length; index++) {
    right += ((hits[index] ?? 0) >> threshold) & 1;
    wrong += ((misses[index] ?? 0) >> threshold) & 1;
    found[index] = right / counted;
    precisions[index] = right / (right + wrong + Number.EPSILON);
  }
  for (let index = length - 2; index >= 0; index--)
    precisions[index] = Math.max(precisions[index] ?? 0, precisions[index + 1] ?? 0);
  let place = 0;
  let sum = 0;
  for (const point of recallPoints) {
    while (place < length && (found[place] ?? 0) < point) place += 1;
    if (place === length) break;
    sum += precisions[place] ?? 0;
  }
  return sum / recallPoints.length;
}
