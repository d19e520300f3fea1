import type { EvaluationReport, StepReport, TrainingPhase } from "../training/training-listener.ts";

export type Directive = "continue" | "checkpoint" | "checkpoint-and-stop" | "abort";

export interface JoinAnswer {
  readonly directive: Directive;
  /** Text of a `WorkerConfig` or `EvaluationWorkerConfig`. */
  readonly configJson: string;
  /** Key prefix of the checkpoint that the controller knows of; empty = none. */
  readonly resumeFrom: string;
  /** Addresses of all ranks in their order; empty when there is one, or while `missingRanks` is not. */
  readonly peers: readonly string[];
  /** Ranks that have not joined yet: call again. */
  readonly missingRanks: readonly number[];
}

export interface CheckpointNotice {
  readonly step: number;
  readonly key: string;
  readonly sizeBytes: number;
  readonly manifestSha256: string;
  readonly isBest: boolean;
}

export interface LogNotice {
  readonly timeMs: number;
  readonly level: string;
  readonly message: string;
}

/** The last word of a process. */
export interface Outcome {
  readonly exitCode: number;
  /** A reason of the closed list (`RunReason`). */
  readonly reason: string;
  readonly message: string;
  /** Key prefix of the finished model; empty when there is none. */
  readonly modelKey: string;
}

/** A step, when it was taken, and by which attempt. */
export type ToldStep = StepReport & { readonly timeMs: number; readonly attempt: number };

/** Everything that happened since the report before. */
export interface Report {
  readonly sequence: number;
  readonly phase: TrainingPhase;
  readonly steps: readonly ToldStep[];
  readonly checkpoints: readonly CheckpointNotice[];
  readonly evaluations: readonly EvaluationReport[];
  readonly logLines: readonly LogNotice[];
  readonly outcome: Outcome | null;
  /** This rank waits for the others. */
  readonly waitsForRanks: boolean;
}

/**
 * The controller as a rank sees it.
 *
 * Errors: `UnavailableError` when it does not answer (try again), `StaleAttemptError` when the token or the epoch is
 * no longer good (stop).
 */
export interface WorkerClient {
  /** @param listenAddress  `host:port` where this rank waits for the next one; empty when it trains alone */
  join(listenAddress: string): Promise<JoinAnswer>;
  report(report: Report): Promise<Directive>;
}
