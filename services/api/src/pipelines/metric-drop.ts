import { runOf, type PipelineSpec, type PipelineTrigger } from "@drydock/spec";
import type { Statistics } from "../statistics/statistics.ts";
import type { ModelStore } from "../store/model-store.ts";
import type { ObservationStore } from "../store/observation-store.ts";
import { shownScore } from "./live-score.ts";

export interface MetricDropSources {
  readonly models: ModelStore;
  readonly observations: ObservationStore;
  readonly statistics: Statistics;
}

/** That the model in production answers worse than it should. */
export interface MetricDrop {
  /** The same for one version and window, so that a score that stays low starts one run a window. */
  readonly key: string;
  readonly detail: string;
}

/**
 * Whether the live score of the version in production has fallen below a trigger's limit: a number, or so far below the score that the version
 * had after its training. Null while it has not, or while too few answers came with the truth.
 */
export async function metricDrop(
  { models, observations, statistics }: MetricDropSources,
  spec: PipelineSpec,
  trigger: Extract<PipelineTrigger, { type: "metric" }>,
  now: Date,
): Promise<MetricDrop | null> {
  const { metric, minimum, maximumDrop, windowSeconds, minimumSamples } = trigger;
  const { name, task } = runOf(spec);
  const model = await models.find(name, "production");
  if (model === null) return null;
  const trained = model.lineage.scores.after?.[metric];
  const limit = minimum ?? (trained === undefined ? null : trained - (maximumDrop ?? 0));
  if (limit === null) return null;
  const observed = await observations.since(model, new Date(now.getTime() - windowSeconds * 1000));
  const { samples, score } = await statistics.score({ observed, question: { task, metric, minimumSamples } });
  if (score === null || score >= limit) return null;
  const window = Math.floor(now.getTime() / 1000 / windowSeconds);
  const live = `live ${metric} of ${name}@${model.version} fell to ${shownScore(score)} on ${samples} answers`;
  return { key: `metric/${metric}/${model.version}/${window}`, detail: `${live}, below ${shownScore(limit)}` };
}
