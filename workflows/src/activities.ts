import type { DatasetInput, EvaluationInput, EvaluationShard, Layout, RunReason, RunState } from "@drydock/spec";

/** How a layout differs from others of the same plan. */
export type LayoutFacts = Pick<
  Layout,
  "microBatchSize" | "accumulationSteps" | "recomputeActivations" | "dataParallel" | "pipelineStages"
>;

/** What the workflow must know of a run; read once, small. */
export interface RunFacts {
  readonly state: RunState;
  readonly retries: number;
  readonly deadlineSeconds: number;
  /** The plan's layout and those to fall back to when memory runs out, in order; empty for a plan without one. */
  readonly layouts: readonly LayoutFacts[];
  /** The plan's refusals as one sentence; empty when there are none. */
  readonly refusal: string;
  /** True when the plan was refused: the run fails without an attempt. */
  readonly isRefused: boolean;
}

export interface AttemptInput {
  readonly runId: string;
  /** Epoch of the attempt before; 0 for the first. A later one that is there already is this one, started by an earlier try. */
  readonly afterEpoch: number;
  /** Which of the plan's layouts: 0 is the one that was planned, later ones need less memory. */
  readonly layout: number;
  /** True: start nothing; stop the attempt that runs, if one does. */
  readonly isStopping?: true;
}

/** How an attempt ended. `reason` is one of the closed list. */
export interface AttemptOutcome {
  readonly kind: "succeeded" | "stopped" | "failed";
  /** Null when no worker was started. */
  readonly epoch: number | null;
  readonly reason: RunReason;
  readonly message: string;
  readonly lastStep: number;
  /** Key prefix of the finished model; empty unless succeeded. */
  readonly modelKey: string;
}

export interface TransitionInput {
  readonly runId: string;
  /** Makes the transition idempotent. */
  readonly key: string;
  readonly to: RunState;
  readonly reason: RunReason;
  readonly message: string;
  readonly attempt: number | null;
}

export interface RequeueInput {
  readonly runId: string;
  readonly reason: RunReason;
  readonly message: string;
  readonly attempt: number | null;
}

export interface PublishInput {
  readonly runId: string;
  readonly epoch: number;
  readonly modelKey: string;
}

/** Activities of runs, implemented by the controller. */
export interface RunActivities {
  loadRun(input: { readonly runId: string }): Promise<RunFacts>;
  transitionRun(input: TransitionInput): Promise<void>;
  /** Waits for capacity, starts or adopts a worker, and watches it to its end. Cancelled = stop after a checkpoint. */
  runAttempt(input: AttemptInput): Promise<AttemptOutcome>;
  publishRun(input: PublishInput): Promise<void>;
  /** Writes the remedy of a failed attempt down and puts the run back into the queue. */
  requeue(input: RequeueInput): Promise<void>;
}

export interface DatasetActivities {
  importDataset(input: DatasetInput): Promise<void>;
}

export interface EvaluationShardInput extends EvaluationInput {
  readonly shard: EvaluationShard;
}

export interface ShardOutcome {
  /** Why there are no answers; null when there are. */
  readonly failure: string | null;
  /** Seconds that answering took; null when the controller that heard it is gone. */
  readonly seconds: number | null;
}

export interface JoinInput extends EvaluationInput {
  /** As of a shard that could not be answered; null when all were. */
  readonly failure: string | null;
  /** Of the slowest shard. */
  readonly seconds: number | null;
}

export interface EvaluationEnd extends EvaluationInput {
  readonly state: "failed" | "cancelled";
  readonly message: string;
}

export interface EvaluationActivities {
  /** Answers and scores all rows. Cancelled = stop the worker. */
  runEvaluation(input: EvaluationInput): Promise<void>;
  /** Answers a part of the rows and tells nobody how it ended. Cancelled = stop its worker. */
  runEvaluationShard(input: EvaluationShardInput): Promise<ShardOutcome>;
  /** Puts the rows of all shards together, scores them as one, and writes down how the evaluation ended. */
  joinEvaluation(input: JoinInput): Promise<void>;
  /** Writes down that nothing was scored. */
  endEvaluation(input: EvaluationEnd): Promise<void>;
}

export interface SweepActivities {
  /** Starts, compares, stops and pauses trials until the sweep is over. */
  runSweep(input: { readonly sweepId: string }): Promise<void>;
  failSweep(input: { readonly sweepId: string; readonly message: string }): Promise<void>;
}

export interface PipelineActivities {
  /** Does one step after the other until the run is over. */
  runPipeline(input: { readonly pipelineRunId: string }): Promise<void>;
  failPipeline(input: { readonly pipelineRunId: string; readonly message: string }): Promise<void>;
}
