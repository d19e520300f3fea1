import type { VisualTokenScheme } from "../catalogue/architecture.ts";
import type { Task } from "../contract/common.ts";
import type { DatasetStatistics } from "../contract/dataset.ts";
import type { TokenMonitor } from "../contract/plan.ts";
import { maxAspectRatio } from "./smart-resize.ts";
import { textTokens } from "./text-tokens.ts";
import { pictureCost, type PictureCost, type PixelLimits } from "./visual-tokens.ts";

export interface TokenQuestion {
  readonly scheme: VisualTokenScheme | null;
  readonly task: Task;
  readonly contextWindow: number;
  readonly limits: PixelLimits;
  readonly systemPromptCharacters: number;
  /** Null when there is no data yet: one picture and a short question are assumed. */
  readonly statistics: Pick<DatasetStatistics, "samples"> | null;
}

/** Positions of one sample as the planner needs them. */
export interface SampleTokens {
  readonly visual: number;
  readonly text: number;
  readonly total: number;
  /** Positions whose logits are computed: the answer. */
  readonly labels: number;
  readonly patches: number;
  readonly patchesPerSegment: number;
}

/** The token monitor and what the memory and time formulas take from the samples that fit the window. */
export interface TokenProfile {
  readonly monitor: TokenMonitor;
  /** Component-wise largest over the samples that fit the window. */
  readonly longest: SampleTokens;
  readonly mean: SampleTokens;
  /** Samples with a picture that the family refuses (a side more than 200 times the other). */
  readonly tooThin: number;
}

/** One picture of about a megapixel, a question of 200 characters, an answer of 200: assumed when there is no data. */
const assumedSample = { images: [[1024, 980]] as [number, number][], promptCharacters: 200, answerCharacters: 200 };

/**
 * Counts tokens of every sample against the context window. Visual tokens are exact; text tokens are an estimate unless
 * the statistics carry tokenizer counts. A sample over the window is counted and left out of `longest` and `mean`, as
 * training leaves it out.
 */
export function profileTokens(question: TokenQuestion): TokenProfile {
  const samples =
    question.statistics === null || question.statistics.samples.length === 0
      ? [assumedSample]
      : question.statistics.samples;
  const costOf = pictureCosts(question.scheme, question.limits);
  let tooThin = 0;
  let textIsEstimate = false;
  const counted: SampleTokens[] = [];
  for (const sample of samples) {
    const text = textTokens(question.task, { ...sample, systemPromptCharacters: question.systemPromptCharacters });
    textIsEstimate ||= text.isEstimate;
    if (question.scheme !== null && sample.images.some(isTooThin)) {
      tooThin += 1;
      continue;
    }
    const pictures = sample.images.map(([width, height]) => costOf(width, height));
    const visual = sum(pictures.map((picture) => picture.tokens));
    counted.push({
      visual,
      text: text.total,
      total: visual + text.total,
      labels: text.answer,
      patches: sum(pictures.map((picture) => picture.patches)),
      patchesPerSegment: Math.max(0, ...pictures.map((picture) => picture.patchesPerSegment)),
    });
  }
  const within = counted.filter((sample) => sample.total <= question.contextWindow);
  return {
    monitor: {
      basis: question.statistics === null ? "assumption" : "data",
      samples: question.statistics === null ? 0 : counted.length + tooThin,
      visual: statisticsOf(counted.map((sample) => sample.visual)),
      text: statisticsOf(counted.map((sample) => sample.text)),
      total: statisticsOf(counted.map((sample) => sample.total)),
      contextWindow: question.contextWindow,
      overWindow: counted.length - within.length,
      textIsEstimate,
    },
    longest: combine(within, (values) => values.reduce((largest, value) => Math.max(largest, value), 0)),
    mean: combine(within, (values) => (values.length === 0 ? 0 : sum(values) / values.length)),
    tooThin,
  };
}

/** Median, 95th percentile (nearest rank) and largest of a list; zeros for an empty one. */
export function statisticsOf(values: readonly number[]): { p50: number; p95: number; max: number } {
  const sorted = Float64Array.from(values).sort();
  const at = (share: number): number => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
  return { p50: at(0.5), p95: at(0.95), max: at(1) };
}

/** Costs by size, each computed once: data sets have few distinct sizes. */
function pictureCosts(
  scheme: VisualTokenScheme | null,
  limits: PixelLimits,
): (width: number, height: number) => PictureCost {
  const known = new Map<string, PictureCost>();
  return (width, height) => {
    if (scheme === null) return { tokens: 0, placeholderTokens: 0, patches: 0, patchesPerSegment: 0 };
    const key = `${width}x${height}`;
    const cost = known.get(key) ?? pictureCost(scheme, { width, height }, limits);
    known.set(key, cost);
    return cost;
  };
}

function isTooThin([width, height]: readonly [number, number]): boolean {
  return Math.max(width, height) > maxAspectRatio * Math.min(width, height);
}

function combine(samples: readonly SampleTokens[], fold: (values: readonly number[]) => number): SampleTokens {
  return {
    visual: fold(samples.map((sample) => sample.visual)),
    text: fold(samples.map((sample) => sample.text)),
    total: fold(samples.map((sample) => sample.total)),
    labels: fold(samples.map((sample) => sample.labels)),
    patches: fold(samples.map((sample) => sample.patches)),
    patchesPerSegment: fold(samples.map((sample) => sample.patchesPerSegment)),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
