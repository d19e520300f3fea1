import { z } from "zod";
import { Name, Timestamp } from "./common.ts";
import { EvaluationSlice, ScoreIntervals } from "./evaluation-details.ts";
import { VersionOrAlias } from "./model-alias.ts";
import { Grounding } from "./record.ts";
import { Scores } from "./run.ts";

/** One answer of a model in use, with or without what would have been right. */
export const Observation = z
  .strictObject({
    /** The reporter's own id of it: said twice, it counts once. */
    key: z.string().min(1).max(200),
    time: Timestamp,
    prompt: z.string().max(20_000).default(""),
    answer: z.string().max(20_000),
    /** The boxes of the answer, for phrase grounding; null: it could not be read. */
    groundings: z.array(Grounding).max(1000).nullish(),
    truth: z.string().max(20_000).optional(),
    expectedGroundings: z.array(Grounding).max(1000).optional(),
    tags: z.array(z.string().min(1).max(64)).max(20).default([]),
    width: z.int().positive().optional(),
    height: z.int().positive().optional(),
  })
  .meta({ id: "Observation" });
export type Observation = z.output<typeof Observation>;

/** Body of `POST /v1/models/{name}/observations`. */
export const ObservationBatch = z
  .strictObject({
    version: z.union([z.int().min(1).max(999_999_999), VersionOrAlias]).default("production"),
    observations: z.array(Observation).min(1).max(1000),
  })
  .meta({ id: "ObservationBatch" });

export const ObservationReceipt = z
  .object({ model: Name, version: z.int(), received: z.int(), /** Known already. */ repeated: z.int() })
  .meta({ id: "ObservationReceipt" });

/** What a model in use has shown lately. */
export const LiveMetrics = z
  .object({
    model: Name,
    version: z.int(),
    since: Timestamp,
    observations: z.int(),
    withTruth: z.int(),
    /** Share of answers that could not be read, 0..100; 0 for tasks whose answers always can. */
    unparsable: z.number(),
    /** Share of answers without a word, 0..100. */
    empty: z.number(),
    /** Of those with truth, as in evaluations. */
    scores: Scores,
    intervals: ScoreIntervals,
    slices: z.array(EvaluationSlice),
  })
  .meta({ id: "LiveMetrics" });
export type LiveMetrics = z.infer<typeof LiveMetrics>;
