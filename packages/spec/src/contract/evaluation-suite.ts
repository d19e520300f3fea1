import { z } from "zod";
import { DatasetReference, Name, Timestamp } from "./common.ts";
import { Evaluation, EvaluationSpec } from "./evaluation.ts";
import { ScoreIntervals } from "./evaluation-details.ts";
import { ModelReference } from "./run-spec.ts";
import { Scores } from "./run.ts";

const atMost = 20;
const questions = EvaluationSpec.omit({ model: true, dataset: true }).shape;

/** Several models times several data-set versions; each pair is an evaluation of its own, in a worker of its own. */
export const EvaluationSuiteSpec = z
  .strictObject({
    name: Name,
    models: z.array(ModelReference).min(1).max(atMost),
    datasets: z.array(DatasetReference).min(1).max(atMost),
    ...questions,
  })
  .meta({ id: "EvaluationSuiteSpec" });
export type EvaluationSuiteSpec = z.output<typeof EvaluationSuiteSpec>;

/**
 * Body of `POST /v1/evaluations`: `model` and `dataset` make one evaluation; `models` or `datasets`, or both, make a suite.
 * Exactly one of `model` and `models`, and one of `dataset` and `datasets`.
 */
export const EvaluationRequest = z
  .strictObject({
    /** Of a suite. */
    name: Name.optional(),
    model: ModelReference.optional(),
    models: z.array(ModelReference).min(1).max(atMost).optional(),
    dataset: DatasetReference.optional(),
    datasets: z.array(DatasetReference).min(1).max(atMost).optional(),
    ...questions,
  })
  .meta({ id: "EvaluationRequest" });
export type EvaluationRequest = z.output<typeof EvaluationRequest>;

/** One model on one data-set version. */
export const SuiteCell = z
  .object({
    model: z.string(),
    dataset: z.string(),
    evaluationId: z.string(),
    state: Evaluation.shape.state,
    message: z.string(),
    samples: z.int().nonnegative(),
    scores: Scores.nullable(),
    intervals: ScoreIntervals.nullable(),
  })
  .meta({ id: "SuiteCell" });
export type SuiteCell = z.infer<typeof SuiteCell>;

/** A model's place by the headline metric: the mean over data sets of those that have scores for every one. */
export const SuiteRank = z
  .object({
    rank: z.int().positive(),
    model: z.string(),
    /** Mean over the data sets, each counting the same. */
    score: z.number(),
    /** Data sets behind `score`. */
    datasets: z.int().positive(),
  })
  .meta({ id: "SuiteRank" });
export type SuiteRank = z.infer<typeof SuiteRank>;

export const EvaluationSuite = z
  .object({
    id: z.string(),
    name: Name,
    /** Follows from its evaluations: `failed` when all are over and one failed. */
    state: Evaluation.shape.state,
    message: z.string(),
    spec: EvaluationSuiteSpec,
    /** The metric that ranks. */
    headline: z.string(),
    cells: z.array(SuiteCell),
    /** Best first; empty until a model has scores on every data set. */
    ranking: z.array(SuiteRank),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "EvaluationSuite" });
export type EvaluationSuite = z.infer<typeof EvaluationSuite>;
