import { InvalidError } from "@drydock/kit";
import type { Scores, Task } from "@drydock/spec";
import { groundingMetrics } from "./grounding-metrics.ts";
import { everyRow } from "./prepared-metric.ts";
import type { Metric, ScoredSample } from "./scored-sample.ts";
import { textMetrics } from "./text-metrics.ts";

export type { ScoredSample } from "./scored-sample.ts";

export interface Scored {
  readonly scores: Scores;
  /** One entry per sample, in order. */
  readonly perSample: readonly Scores[];
}

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
  for (const [index, name] of metrics.entries()) checkMetric(task, name, `${path}.${index}`);
}

/** @throws InvalidError `unknown_metric` at `path` */
export function checkMetric(task: Task, name: string, path: string): void {
  if (metricNames[task].includes(name)) return;
  const message = `metric "${name}" is not one of task "${task}"; use ${metricNames[task].join(", ")}`;
  throw new InvalidError("unknown_metric", message, { details: [{ path, code: "unknown_metric", message }] });
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
    if (samples.length === 0) {
      scores[name] = 0;
      continue;
    }
    const { perSample: each, scoreOf } = metricOf(name)(samples);
    scores[name] = scoreOf(everyRow(samples.length));
    for (const [index, own] of perSample.entries()) own[name] = each[index] ?? 0;
  }
  return { scores, perSample };
}

/** A metric of any task. @throws InvalidError `unknown_metric` */
export function metricOf(name: string): Metric {
  const metric = Object.hasOwn(textMetrics, name) ? textMetrics[name] : undefined;
  const found = metric ?? (Object.hasOwn(groundingMetrics, name) ? groundingMetrics[name] : undefined);
  if (found) return found;
  const known = [...Object.keys(groundingMetrics), ...Object.keys(textMetrics)];
  const message = `there is no metric "${name}"; use ${known.join(", ")}`;
  throw new InvalidError("unknown_metric", message, { details: [{ path: "metric", code: "unknown_metric", message }] });
}
