import { z } from "zod";
import { EvaluationShard, EvaluationSpec } from "./evaluation.ts";
import { Layout } from "./plan.ts";
import { RunSpec } from "./run-spec.ts";

/** What a rank gets at join (`config_json`), or from `--config` when it runs alone. Holds ids and keys, never data. */
export const WorkerConfig = z.object({
  kind: z.literal("train"),
  runId: z.string(),
  spec: RunSpec,
  layout: Layout,
  /** Steps of the whole run. */
  totalSteps: z.int().positive(),
  /** Folder of the base model on the worker's machine, Hugging Face layout; empty when `modelKey` says where it is. */
  modelDirectory: z.string(),
  /** Where object storage keeps the base model, see `StoredModel`: for workers that share no disk with the controller. */
  modelKey: z.string().optional(),
  /** PEFT adapter to start from, of the spec's rank, alpha and targets; absent = a fresh one. */
  adapterDirectory: z.string().optional(),
  /** Key of `records.jsonl` in object storage. */
  recordsKey: z.string(),
  /** Of the records' file, lower-case hex; absent or null = unknown. */
  recordsSha256: z.string().nullish(),
  systemPrompt: z.string(),
  planDigest: z.string(),
  datasetDigest: z.string().nullable(),
  /** The version that the finished model gets: files go to `models/<name>/<version>/`. */
  modelName: z.string(),
  modelVersion: z.int().positive(),
  threads: z.int().min(1).optional(),
});
export type WorkerConfig = z.infer<typeof WorkerConfig>;

/** The same for an evaluation of its own. */
export const EvaluationWorkerConfig = z.object({
  kind: z.literal("evaluate"),
  evaluationId: z.string(),
  /** The part of the rows that this worker answers; absent = all. */
  shard: EvaluationShard.optional(),
  spec: EvaluationSpec,
  modelDirectory: z.string(),
  modelKey: z.string().optional(),
  adapterDirectory: z.string().nullable(),
  /** Where object storage keeps the adapter, see `StoredModel`. */
  adapterKey: z.string().optional(),
  recordsKey: z.string(),
  recordsSha256: z.string().nullish(),
  systemPrompt: z.string(),
  threads: z.int().min(1).optional(),
});
export type EvaluationWorkerConfig = z.infer<typeof EvaluationWorkerConfig>;
