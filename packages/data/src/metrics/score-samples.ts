import { InvalidError } from "@drydock/kit";
import type { Grounding, Scores, Task } from "@drydock/spec";
import { anls, exactMatch, relaxedAccuracy, vqaAccuracy } from "./answer-metrics.ts";
import { bleu } from "./bleu.ts";
import { ciderD } from "./cider-d.ts";
import {
  addCounts,
  boxesByPhrase,
  countDetections,
  macroRates,
  matchedOverlaps,
  ratesOf,
  type DetectionRates,
} from "./grounding-scores.ts";
import { meanAveragePrecision, type DetectedBox, type ExpectedBox } from "./mean-average-precision.ts";
import type { CorpusScore, TokenisedSample } from "./ngrams.ts";
import { rougeL } from "./rouge-l.ts";
import { tokeniseCaption } from "./tokenise-caption.ts";

/** One answered row. For phrase grounding the two lists of groundings count, else the two texts. */
export interface ScoredSample {
  readonly expected: string;
  /** Further right answers beside `expected` (several annotators). */
  readonly references?: readonly string[];
  readonly answer: string;
  readonly expectedGroundings: readonly Grounding[];
  /** Empty when the answer could not be parsed: then every expected box counts as missed. */
  readonly answeredGroundings: readonly Grounding[];
}

export interface Scored {
  readonly scores: Scores;
  /** One entry per sample, in order. */
  readonly perSample: readonly Scores[];
}

type Metric = (samples: readonly ScoredSample[]) => CorpusScore;

const textMetrics: Readonly<Record<string, Metric>> = {
  "exact-match": percentOf(meanOf(exactMatch)),
  "vqa-accuracy": percentOf(meanOf(vqaAccuracy)),
  anls: percentOf(meanOf(anls)),
  "relaxed-accuracy": percentOf(meanOf(relaxedAccuracy)),
  "bleu-1": percentOf((samples) => bleuOf(samples, 1)),
  "bleu-2": percentOf((samples) => bleuOf(samples, 2)),
  "bleu-3": percentOf((samples) => bleuOf(samples, 3)),
  "bleu-4": percentOf((samples) => bleuOf(samples, 4)),
  "rouge-l": percentOf((samples) => rougeL(samples.map(tokenise))),
  "cider-d": (samples) => ciderD(samples.map(tokenise)),
};

const groundingMetrics: Readonly<Record<string, Metric>> = {
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

/** Metrics that a run of a task may name; the first is its default headline. */
export const metricNames: Readonly<Record<Task, readonly string[]>> = {
  "phrase-grounding": ["f1@0.5", ...Object.keys(groundingMetrics).filter((name) => name !== "f1@0.5")],
  vqa: Object.keys(textMetrics),
  chat: Object.keys(textMetrics),
};

/** Metrics computed when a run names none. */
export const defaultMetrics: Readonly<Record<Task, readonly string[]>> = {
  "phrase-grounding": ["f1@0.5", "precision@0.5", "recall@0.5", "iou", "map"],
  vqa: ["exact-match", "bleu-4", "rouge-l", "cider-d"],
  chat: ["rouge-l", "exact-match", "bleu-4", "cider-d"],
};

/**
 * @param path  of the list, for the error
 * @throws InvalidError `unknown_metric` naming the metric and the known ones of the task
 */
export function checkMetrics(task: Task, metrics: readonly string[], path = "evaluation.metrics"): void {
  for (const [index, name] of metrics.entries()) {
    if (metricNames[task].includes(name)) continue;
    const message = `metric "${name}" is not one of task "${task}"; use ${metricNames[task].join(", ")}`;
    throw new InvalidError("unknown_metric", message, {
      details: [{ path: `${path}.${index}`, code: "unknown_metric", message }],
    });
  }
}

/**
 * Scores answers with the metrics asked for.
 *
 * Rates are 0..100. `cider-d` is on the reference's own scale, 0..10. `iou` is the mean over expected boxes of the IoU
 * with the matched answer; `iou@0.5` the share of expected boxes met with IoU ≥ 0.5 (the same as `recall@0.5`).
 * Precision, recall and F1 pool all boxes (micro); names that end in `-macro` are means over phrases. `map` is COCO's
 * mAP@[.5:.95] with each phrase a category and every answered box of confidence 1, so it depends on the order of boxes:
 * read it next to F1. A corpus with neither expected nor answered boxes scores 100. `bleu-4`, `rouge-l` and `cider-d` tokenise with
 * `tokeniseCaption`. Without samples every score is 0.
 *
 * @throws InvalidError `unknown_metric`
 */
export function scoreSamples(task: Task, metrics: readonly string[], samples: readonly ScoredSample[]): Scored {
  checkMetrics(task, metrics);
  const scores: Record<string, number> = {};
  const perSample = samples.map((): Record<string, number> => ({}));
  for (const name of metrics) {
    const metric = (task === "phrase-grounding" ? groundingMetrics : textMetrics)[name];
    if (!metric || samples.length === 0) {
      scores[name] = 0;
      continue;
    }
    const { score, perSample: each } = metric(samples);
    scores[name] = score;
    for (const [index, own] of perSample.entries()) own[name] = each[index] ?? 0;
  }
  return { scores, perSample };
}

function percentOf(metric: Metric): Metric {
  return (samples) => {
    const { score, perSample } = metric(samples);
    return { score: score * 100, perSample: perSample.map((value) => value * 100) };
  };
}

function meanOf(score: (answer: string, references: readonly string[]) => number): Metric {
  return (samples) => {
    const perSample = samples.map((sample) => score(sample.answer, referencesOf(sample)));
    return { score: mean(perSample), perSample };
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

function referencesOf(sample: ScoredSample): string[] {
  return [sample.expected, ...(sample.references ?? [])];
}

function tokenise(sample: ScoredSample): TokenisedSample {
  return { answer: tokeniseCaption(sample.answer), references: referencesOf(sample).map(tokeniseCaption) };
}

function bleuOf(samples: readonly ScoredSample[], length: number): CorpusScore {
  return bleu(samples.map(tokenise))[length - 1] ?? { score: 0, perSample: [] };
}

function pairOf(sample: ScoredSample): { expected: readonly Grounding[]; answered: readonly Grounding[] } {
  return { expected: sample.expectedGroundings, answered: sample.answeredGroundings };
}

function meanIou(samples: readonly ScoredSample[]): CorpusScore {
  const overlaps = samples.map((sample) => matchedOverlaps(pairOf(sample)));
  const perSample = overlaps.map((values, index) => {
    if (values.length > 0) return mean(values);
    return boxCount(samples[index]?.answeredGroundings ?? []) === 0 ? 1 : 0;
  });
  const all = overlaps.flat();
  return { score: all.length === 0 ? mean(perSample) : mean(all), perSample };
}

function boxCount(groundings: readonly Grounding[]): number {
  return groundings.reduce((sum, { boxes }) => sum + boxes.length, 0);
}

function microAt(
  samples: readonly ScoredSample[],
  threshold: number,
  pick: (rates: DetectionRates) => number,
): CorpusScore {
  const counts = samples.map((sample) => addCounts(countDetections(pairOf(sample), threshold).values()));
  return { score: pick(ratesOf(addCounts(counts))), perSample: counts.map((own) => pick(ratesOf(own))) };
}

function macroAt(
  samples: readonly ScoredSample[],
  threshold: number,
  pick: (rates: DetectionRates) => number,
): CorpusScore {
  const pairs = samples.map(pairOf);
  return {
    score: pick(macroRates(pairs, threshold)),
    perSample: pairs.map((pair) => pick(macroRates([pair], threshold))),
  };
}

function averagePrecision(samples: readonly ScoredSample[], statistic: "ap" | "ap50"): CorpusScore {
  const expected = samples.map((sample, image) => toBoxes(sample.expectedGroundings, image));
  const detected = samples.map((sample, image) =>
    toBoxes(sample.answeredGroundings, image).map((box): DetectedBox => ({ ...box, score: 1 })),
  );
  const measure = (wanted: readonly ExpectedBox[], given: readonly DetectedBox[]): number => {
    const value = meanAveragePrecision(wanted, given)[statistic];
    return value >= 0 ? value : given.length === 0 ? 1 : 0;
  };
  return {
    score: measure(expected.flat(), detected.flat()),
    perSample: expected.map((wanted, index) => measure(wanted, detected[index] ?? [])),
  };
}

function toBoxes(groundings: readonly Grounding[], image: number): ExpectedBox[] {
  return [...boxesByPhrase(groundings)].flatMap(([category, boxes]) => boxes.map((box) => ({ image, category, box })));
}
