import type { Grounding } from "@drydock/spec";
import {
  addCounts,
  boxesByPhrase,
  countDetections,
  macroRates,
  matchedOverlaps,
  ratesOf,
  type DetectionCounts,
  type DetectionRates,
} from "./grounding-scores.ts";
import type { ExpectedBox } from "./mean-average-precision.ts";
import { inPercent, meanAt, type PreparedMetric } from "./prepared-metric.ts";
import type { Metric, ScoredSample } from "./scored-sample.ts";
import { prepareUnrankedPrecision } from "./unranked-precision.ts";

/** Metrics of boxes, by name. */
export const groundingMetrics: Readonly<Record<string, Metric>> = {
  iou: percentOf(meanIou),
  "iou@0.5": percentOf((samples) => microAt(samples, 0.5, (rates) => rates.recall)),
  "precision@0.5": percentOf((samples) => microAt(samples, 0.5, (rates) => rates.precision)),
  "recall@0.5": percentOf((samples) => microAt(samples, 0.5, (rates) => rates.recall)),
  "f1@0.5": percentOf((samples) => microAt(samples, 0.5, (rates) => rates.f1)),
  "precision@0.5-macro": percentOf((samples) => macroAt(samples, 0.5, (rates) => rates.precision)),
  "recall@0.5-macro": percentOf((samples) => macroAt(samples, 0.5, (rates) => rates.recall)),
  "f1@0.5-macro": percentOf((samples) => macroAt(samples, 0.5, (rates) => rates.f1)),
  map: percentOf((samples) => averagePrecision(samples, "ap")),
  "map@0.5": percentOf((samples) => averagePrecision(samples, "ap50")),
};

function percentOf(metric: Metric): Metric {
  return (samples) => inPercent(metric(samples));
}

function pairOf(sample: ScoredSample): { expected: readonly Grounding[]; answered: readonly Grounding[] } {
  return { expected: sample.expectedGroundings, answered: sample.answeredGroundings };
}

function meanIou(samples: readonly ScoredSample[]): PreparedMetric {
  const overlaps = samples.map((sample) => matchedOverlaps(pairOf(sample)));
  const sums = overlaps.map((values) => values.reduce((sum, value) => sum + value, 0));
  const perSample = overlaps.map(({ length }, index) => {
    if (length > 0) return (sums[index] ?? 0) / length;
    return boxCount(samples[index]?.answeredGroundings ?? []) === 0 ? 1 : 0;
  });
  const own = Float64Array.from(perSample);
  return {
    perSample,
    scoreOf: (rows) => {
      let [sum, boxes] = [0, 0];
      for (const row of rows) {
        sum += sums[row] ?? 0;
        boxes += overlaps[row]?.length ?? 0;
      }
      return boxes === 0 ? meanAt(own, rows) : sum / boxes;
    },
  };
}

function boxCount(groundings: readonly Grounding[]): number {
  return groundings.reduce((sum, { boxes }) => sum + boxes.length, 0);
}

function microAt(
  samples: readonly ScoredSample[],
  threshold: number,
  pick: (rates: DetectionRates) => number,
): PreparedMetric {
  const counts = samples.map((sample) => addCounts(countDetections(pairOf(sample), threshold).values()));
  return {
    perSample: counts.map((own) => pick(ratesOf(own))),
    scoreOf: (rows) => pick(ratesOf(pool(counts, rows))),
  };
}

function pool(counts: readonly DetectionCounts[], rows: Int32Array): DetectionCounts {
  const total: DetectionCounts = { truePositives: 0, falsePositives: 0, falseNegatives: 0 };
  for (const row of rows) {
    const own = counts[row];
    if (own) add(total, own);
  }
  return total;
}

function add(total: DetectionCounts, own: DetectionCounts): void {
  total.truePositives += own.truePositives;
  total.falsePositives += own.falsePositives;
  total.falseNegatives += own.falseNegatives;
}

function macroAt(
  samples: readonly ScoredSample[],
  threshold: number,
  pick: (rates: DetectionRates) => number,
): PreparedMetric {
  const pairs = samples.map(pairOf);
  const phrases = new Map<string, number>();
  const counts = pairs.map((pair) =>
    [...countDetections(pair, threshold)].map(([phrase, own]) => {
      const number = phrases.get(phrase) ?? phrases.size;
      phrases.set(phrase, number);
      return { number, own };
    }),
  );
  return {
    perSample: pairs.map((pair) => pick(macroRates([pair], threshold))),
    scoreOf: (rows) => {
      const totals: (DetectionCounts | undefined)[] = Array.from({ length: phrases.size });
      for (const row of rows)
        for (const { number, own } of counts[row] ?? []) {
          const total = totals[number];
          if (total) add(total, own);
          else totals[number] = { ...own };
        }
      const rates = totals.flatMap((total) => (total ? [pick(ratesOf(total))] : []));
      if (rates.length === 0) return pick(ratesOf(addCounts([])));
      return rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
    },
  };
}

function averagePrecision(samples: readonly ScoredSample[], statistic: "ap" | "ap50"): PreparedMetric {
  const pictures = samples.map((sample, image) => ({
    expected: toBoxes(sample.expectedGroundings, image),
    detected: toBoxes(sample.answeredGroundings, image),
  }));
  const measure = prepareUnrankedPrecision(pictures);
  const scoreOf = (rows: Int32Array): number => {
    const value = measure(rows)[statistic];
    if (value >= 0) return value;
    return rows.every((row) => pictures[row]?.detected.length === 0) ? 1 : 0;
  };
  return { perSample: samples.map((_, index) => scoreOf(Int32Array.of(index))), scoreOf };
}

function toBoxes(groundings: readonly Grounding[], image: number): ExpectedBox[] {
  return [...boxesByPhrase(groundings)].flatMap(([category, boxes]) => boxes.map((box) => ({ image, category, box })));
}
