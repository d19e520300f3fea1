import type { Grounding } from "@drydock/spec";
import type { PreparedMetric } from "./prepared-metric.ts";

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

export type Metric = (samples: readonly ScoredSample[]) => PreparedMetric;
