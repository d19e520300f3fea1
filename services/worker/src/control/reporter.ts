import { messageOf, systemRetryClock, type Logger, type RetryClock } from "@drydock/kit";
import type { WrittenCheckpoint } from "../checkpoint/write-checkpoint.ts";
import type { EvaluationReport, StepReport, TrainingListener, TrainingPhase } from "../training/training-listener.ts";
import type { RunControl } from "../training/run-control.ts";
import type { Untold } from "../training/untold.ts";
import type {
  CheckpointNotice,
  Directive,
  LogNotice,
  Outcome,
  Report,
  ToldStep,
  WorkerClient,
} from "./worker-client.ts";
import { ControllerClosingError } from "./controller-closing-error.ts";
import { StaleAttemptError } from "./stale-attempt-error.ts";

export interface ReporterOptions {
  readonly client: WorkerClient;
  /** Ours, counted from 1. */
  readonly attempt: number;
  readonly control: RunControl;
  readonly logger: Logger;
  /** Time between reports; events of weight (a checkpoint, an evaluation, a phase) are told at once. */
  readonly intervalMs?: number;
  /** How long the last report is tried for, when the run is over and nothing else can be done. */
  readonly lastReportBudgetMs?: number;
  readonly clock?: RetryClock & { epochMs(): number };
  /** Exit codes for a stop and an abort that the controller asks for. */
  readonly exitCodes: { readonly stop: number; readonly abort: number };
}

const maximumDelayMs = 10_000;

/** Of steps that nobody has heard of, a checkpoint keeps the newest so many: about 4 MB. */
const mostUntoldSteps = 20_000;

/** Who ends a process by a signal waits about half a minute before ending it for good; the exit code tells the rest. */
const signalledBudgetMs = 15_000;

/** What waits for the next report. */
interface Pending {
  steps: ToldStep[];
  checkpoints: CheckpointNotice[];
  evaluations: EvaluationReport[];
  logLines: LogNotice[];
}

/**
 * Tells the controller what happens, about twice a second, and hands its directives to the loop.
 *
 * Training never waits for it. When the controller is away, what happened is kept and told when it is back: a report
 * that was not answered is sent again as it was, with its sequence number, before the next one is made. One report is
 * under way at a time, so they arrive in order.
 */
export class Reporter implements TrainingListener {
  readonly #options: ReporterOptions;
  readonly #clock: RetryClock & { epochMs(): number };
  #pending: Pending = emptyPending();
  /** Sent, and not answered yet. */
  #underWay: Report | null = null;
  #phase: TrainingPhase = "loading";
  #outcome: Outcome | null = null;
  #waitsForRanks = false;
  #sequence = 0;
  #wake = new AbortController();
  #isClosing = false;
  /** A checkpoint that the controller has not been told of yet: until then it may go on asking for one. */
  #untoldCheckpoint = false;
  #loop: Promise<void> | null = null;

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#clock = options.clock ?? { ...systemRetryClock, epochMs: Date.now };
  }

  /** Starts the reports. */
  start(): void {
    this.#loop ??= this.#run();
  }

  phaseChanged(phase: TrainingPhase): void {
    this.#phase = phase;
    this.#wake.abort();
  }

  stepFinished(report: StepReport): void {
    this.#pending.steps.push({ ...report, timeMs: this.#clock.epochMs(), attempt: this.#options.attempt });
  }

  checkpointSaved(checkpoint: WrittenCheckpoint, isBest: boolean): void {
    this.#pending.checkpoints.push({ ...checkpoint, isBest });
    this.#untoldCheckpoint = true;
    this.#wake.abort();
  }

  evaluationFinished(report: EvaluationReport): void {
    this.#pending.evaluations.push(report);
    this.#wake.abort();
  }

  log(level: "info" | "warn" | "error", message: string): void {
    this.#pending.logLines.push({ timeMs: this.#clock.epochMs(), level, message });
    this.#wake.abort();
  }

  untold(): Untold {
    const steps = [...(this.#underWay?.steps ?? []), ...this.#pending.steps].slice(-mostUntoldSteps);
    return {
      steps: steps.map((step) => ({ ...step, loss: orNull(step.loss), gradientNorm: orNull(step.gradientNorm) })),
      evaluations: [...(this.#underWay?.evaluations ?? []), ...this.#pending.evaluations],
    };
  }

  retell({ steps, evaluations }: Untold): void {
    const again = steps.map((step) => ({ ...step, loss: orNaN(step.loss), gradientNorm: orNaN(step.gradientNorm) }));
    this.#pending.steps.unshift(...again);
    this.#pending.evaluations.unshift(...evaluations);
  }

  /** From now on reports say that this rank waits for the others, or that it does not. */
  waits(waitsForRanks: boolean): void {
    this.#waitsForRanks = waitsForRanks;
  }

  /** Sends what is left and the outcome, and waits for the answer, for at most the budget. True when it was told. */
  async close(outcome: Outcome): Promise<boolean> {
    this.#outcome = outcome;
    this.#isClosing = true;
    this.#wake.abort();
    this.start();
    await this.#loop;
    return this.#outcome === null;
  }

  async #run(): Promise<void> {
    for (;;) {
      if (!this.#isClosing) await this.#clock.sleep(this.#options.intervalMs ?? 500, this.#wake.signal);
      this.#wake = new AbortController();
      const isLast = this.#isClosing;
      const wasSent = await this.#send(this.#takeReport());
      if (!wasSent || (isLast && this.#outcome === null)) return;
    }
  }

  #takeReport(): Report {
    const { steps, checkpoints, evaluations, logLines } = this.#pending;
    this.#pending = emptyPending();
    this.#sequence += 1;
    return {
      sequence: this.#sequence,
      phase: this.#phase,
      steps,
      checkpoints,
      evaluations,
      logLines,
      outcome: this.#outcome,
      waitsForRanks: this.#waitsForRanks,
    };
  }

  /** Sends one report until it is answered. False when there is no use in going on. */
  async #send(report: Report): Promise<boolean> {
    this.#underWay = report;
    let closingSinceMs: number | null = null;
    for (let tries = 1; ; tries++) {
      try {
        const directive = await this.#options.client.report(report);
        if (tries > 1) this.#options.logger.info({ sequence: report.sequence, tries }, "controller answers again");
        this.#underWay = null;
        this.#follow(directive, report);
        if (report.outcome !== null) this.#outcome = null;
        return true;
      } catch (error) {
        if (error instanceof StaleAttemptError) {
          this.#options.logger.warn({ error: messageOf(error) }, "attempt is stale");
          this.#options.control.ask("abort", this.#options.exitCodes.abort);
          return false;
        }
        // Whatever else it is (no answer, an error of its own), a controller that was mended answers later.
        if (tries === 1 || tries % 20 === 0)
          this.#options.logger.warn({ error: messageOf(error), tries }, "controller does not answer, training goes on");
        // Both end together, as at a Ctrl-C of everything: who waits for us to end would be waited for in vain.
        if (this.#isClosing && this.#options.control.isSignalled && error instanceof ControllerClosingError)
          return false;
        if (this.#isClosing) closingSinceMs ??= this.#clock.now();
        if (closingSinceMs !== null && this.#clock.now() - closingSinceMs >= this.#lastReportBudgetMs()) return false;
        await this.#clock.sleep(
          Math.min(maximumDelayMs, 250 * 2 ** Math.min(tries - 1, 10)) * (0.5 + this.#clock.random() / 2),
        );
      }
    }
  }

  #lastReportBudgetMs(): number {
    const budgetMs = this.#options.lastReportBudgetMs ?? 3_600_000;
    return this.#options.control.isSignalled ? Math.min(budgetMs, signalledBudgetMs) : budgetMs;
  }

  #follow(directive: Directive, report: Report): void {
    const { control, exitCodes } = this.#options;
    if (report.checkpoints.length > 0) this.#untoldCheckpoint = this.#pending.checkpoints.length > 0;
    switch (directive) {
      case "continue":
        return;
      case "checkpoint":
        if (!this.#untoldCheckpoint) control.askForCheckpoint();
        return;
      case "checkpoint-and-stop":
        return control.ask("stop", exitCodes.stop);
      case "abort":
        return control.ask("abort", exitCodes.abort);
    }
  }
}

function orNull(measure: number): number | null {
  return Number.isFinite(measure) ? measure : null;
}

function orNaN(measure: number | null): number {
  return measure ?? Number.NaN;
}

function emptyPending(): Pending {
  return { steps: [], checkpoints: [], evaluations: [], logLines: [] };
}
