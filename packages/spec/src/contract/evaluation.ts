import { z } from "zod";
import { DatasetReference, Task, Timestamp } from "./common.ts";
import { EvaluationDetails } from "./evaluation-details.ts";
import { Grounding } from "./record.ts";
import { ModelReference } from "./run-spec.ts";
import { Scores } from "./run.ts";

/** Body of `POST /v1/evaluations`: score a model on the validation split of a data-set version. */
export const EvaluationSpec = z
  .strictObject({
    model: ModelReference,
    dataset: DatasetReference,
    task: Task,
    systemPrompt: z.string().max(20_000).optional(),
    metrics: z.array(z.string().min(1)).min(1).optional(),
    maxSamples: z.int().min(1).optional(),
    maxNewTokens: z.int().min(1).max(8192).default(128),
    /** Workers that share the rows; their answers are joined and scored as one. Absent = 1. */
    shards: z.int().min(1).max(64).optional(),
    image: z.strictObject({ minPixels: z.int().min(1).optional(), maxPixels: z.int().min(1).optional() }).prefault({}),
  })
  .meta({ id: "EvaluationSpec" });
export type EvaluationSpec = z.output<typeof EvaluationSpec>;
export type EvaluationSpecInput = z.input<typeof EvaluationSpec>;

/** Which rows a worker answers: those whose place in the validation split is `index` more than a multiple of `count`. */
export const EvaluationShard = z.object({ index: z.int().nonnegative(), count: z.int().min(2) });
export type EvaluationShard = z.infer<typeof EvaluationShard>;

/** Where the rows of an evaluation of its own lie, or those of one of its shards until they are joined. */
export function resultsKeyOf(evaluationId: string, shard?: EvaluationShard): string {
  const name = shard === undefined ? "results" : `shards/${shard.index}-of-${shard.count}`;
  return `evaluations/${evaluationId}/${name}.jsonl`;
}

/** One row of an evaluation: what was asked, what was right, what the model said, and how it scored. */
export const SampleResult = z
  .object({
    rowId: z.string(),
    /** The row's tags, for slices; absent in results of older workers. */
    tags: z.array(z.string()).optional(),
    imageKey: z.string().nullable(),
    fileName: z.string().nullable(),
    width: z.int().nullable(),
    height: z.int().nullable(),
    prompt: z.string(),
    expected: z.string(),
    answer: z.string(),
    expectedGroundings: z.array(Grounding),
    answeredGroundings: z.array(Grounding),
    isParsable: z.boolean(),
    scores: Scores,
  })
  .meta({ id: "SampleResult" });
export type SampleResult = z.infer<typeof SampleResult>;

export const Evaluation = z
  .object({
    id: z.string(),
    /** Null for an evaluation of its own; else the run that it belongs to. */
    runId: z.string().nullable(),
    /** Of the suite that asked for it. */
    suiteId: z.string().nullable().default(null),
    /** `before`, `during`, `after`, or `standalone`. */
    phase: z.enum(["before", "during", "after", "standalone"]),
    step: z.int().nullable(),
    state: z.enum(["queued", "running", "succeeded", "failed", "cancelled"]),
    message: z.string(),
    spec: EvaluationSpec,
    scores: Scores.nullable(),
    /** Confidence intervals and slices; null until it has scores, and for results of older workers. */
    details: EvaluationDetails.nullable().default(null),
    samples: z.int().nonnegative(),
    seconds: z.number().nullable(),
    /** Key of the JSONL of `SampleResult` in object storage. */
    resultsKey: z.string().nullable(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Evaluation" });
export type Evaluation = z.infer<typeof Evaluation>;
