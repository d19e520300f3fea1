import { defaultMetrics, scoreWithDetails, type SlicedSample } from "@drydock/data";
import type { LiveMetrics, Observation, Task } from "@drydock/spec";

/** The model that answered. */
export interface ObservedModel {
  readonly name: string;
  readonly version: number;
  readonly task: Task;
}

/** What live answers come to: scored by the code of evaluations, as far as they carry the truth. */
export function liveMetrics(model: ObservedModel, since: Date, observed: readonly Observation[]): LiveMetrics {
  const samples = observed.flatMap((each) => sampleOf(model.task, each) ?? []);
  const { scores, details } = scoreWithDetails(model.task, defaultMetrics[model.task], samples);
  const share = (is: (each: Observation) => boolean): number =>
    observed.length === 0 ? 0 : (100 * observed.filter(is).length) / observed.length;
  return {
    model: model.name,
    version: model.version,
    since: since.toISOString(),
    observations: observed.length,
    withTruth: samples.length,
    unparsable: share(({ groundings }) => groundings === null),
    empty: share(({ answer }) => answer.trim() === ""),
    scores: samples.length === 0 ? {} : scores,
    intervals: samples.length === 0 ? {} : details.intervals,
    slices: samples.length === 0 ? [] : details.slices,
  };
}

/** An answer with its truth, as evaluations have it; null without. */
export function sampleOf(task: Task, observation: Observation): SlicedSample | null {
  const { answer, truth, groundings, expectedGroundings, tags, width, height } = observation;
  const isKnown = task === "phrase-grounding" ? expectedGroundings !== undefined : truth !== undefined;
  if (!isKnown) return null;
  return {
    expected: truth ?? "",
    answer,
    expectedGroundings: expectedGroundings ?? [],
    answeredGroundings: groundings ?? [],
    tags,
    width,
    height,
  };
}
