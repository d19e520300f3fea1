import { anls, exactMatch, relaxedAccuracy, vqaAccuracy } from "./answer-metrics.ts";
import { prepareBleu } from "./bleu.ts";
import { prepareCiderD } from "./cider-d.ts";
import type { TokenisedSample } from "./ngrams.ts";
import { inPercent, meanMetric, type PreparedMetric } from "./prepared-metric.ts";
import { rougeL } from "./rouge-l.ts";
import type { Metric, ScoredSample } from "./scored-sample.ts";
import { tokeniseCaption } from "./tokenise-caption.ts";

/** Metrics of answers in words, by name. */
export const textMetrics: Readonly<Record<string, Metric>> = {
  "exact-match": meanOf(exactMatch),
  "vqa-accuracy": meanOf(vqaAccuracy),
  anls: meanOf(anls),
  "relaxed-accuracy": meanOf(relaxedAccuracy),
  "bleu-1": (samples) => bleuOf(samples, 1),
  "bleu-2": (samples) => bleuOf(samples, 2),
  "bleu-3": (samples) => bleuOf(samples, 3),
  "bleu-4": (samples) => bleuOf(samples, 4),
  "rouge-l": (samples) => inPercent(meanMetric(rougeL(samples.map(tokenise)).perSample)),
  "cider-d": (samples) => prepareCiderD(samples.map(tokenise)),
};

function meanOf(score: (answer: string, references: readonly string[]) => number): Metric {
  return (samples) => inPercent(meanMetric(samples.map((sample) => score(sample.answer, referencesOf(sample)))));
}

function bleuOf(samples: readonly ScoredSample[], length: number): PreparedMetric {
  return inPercent(prepareBleu(samples.map(tokenise))[length - 1] ?? meanMetric([]));
}

function referencesOf(sample: ScoredSample): string[] {
  return [sample.expected, ...(sample.references ?? [])];
}

function tokenise(sample: ScoredSample): TokenisedSample {
  return { answer: tokeniseCaption(sample.answer), references: referencesOf(sample).map(tokeniseCaption) };
}
