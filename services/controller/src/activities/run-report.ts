import { Phase, type ReportRequest } from "@drydock/proto";
import type { EvaluationSpec, EvaluationUpdate, InternalRun, RunReportBatch, RunTransition } from "@drydock/spec";

/** What one worker report means for the api: rows, a state, evaluations. Pure, so that a report sent twice means the same. */
export interface ReportMeaning {
  /** Null when there is nothing to store. */
  readonly batch: RunReportBatch | null;
  readonly transition: RunTransition | null;
  readonly evaluations: readonly { readonly id: string; readonly update: EvaluationUpdate }[];
}

export function meaningOf(run: InternalRun, report: ReportRequest, now: Date): ReportMeaning {
  const time = now.toISOString();
  if (report.rank > 0) return meaningOfFurtherRank(report, time);
  const evaluations = report.evaluations.map((evaluation) => ({ ...evaluation, phase: phaseOf(evaluation.phase) }));
  const events = eventsOf(report, evaluations, time);
  const { steps, checkpoints } = report;
  const isEmpty = steps.length + checkpoints.length + evaluations.length + events.length === 0;
  return {
    batch: isEmpty
      ? null
      : {
          ...progressOf(run, report),
          metrics: metricsOf(report),
          checkpoints: checkpointsOf(run, report, time),
          events,
          ...(evaluations.length === 0
            ? {}
            : { scores: { ...scoredAs("before", evaluations), ...scoredAs("after", evaluations) } }),
        },
    transition: transitionOf(report, steps.at(-1)?.step ?? null),
    evaluations: evaluations.map((evaluation) => ({
      id: evaluationIdOf(run.id, evaluation),
      update: evaluationUpdateOf(run, evaluation),
    })),
  };
}

/** Steps, checkpoints and evaluations are those of all ranks and told by rank 0; another one's warnings are its own. */
function meaningOfFurtherRank(report: ReportRequest, time: string): ReportMeaning {
  const events = eventsOf(report, [], time).filter(({ type }) => type === "warning");
  return { batch: events.length === 0 ? null : { events }, transition: null, evaluations: [] };
}

type RunEvaluation = Omit<ReportRequest["evaluations"][number], "phase"> & {
  readonly phase: "before" | "during" | "after";
};

function scoredAs(
  phase: "before" | "after",
  evaluations: readonly RunEvaluation[],
): Record<string, Record<string, number>> {
  const found = evaluations.findLast((evaluation) => evaluation.phase === phase);
  return found ? { [phase]: found.scores } : {};
}

function progressOf(run: InternalRun, report: ReportRequest): Pick<RunReportBatch, "progress"> {
  const last = report.steps.at(-1);
  if (!last) return {};
  const totalSteps = run.plan.steps.total;
  return {
    progress: {
      step: last.step,
      totalSteps,
      epoch: last.epoch,
      loss: Number.isFinite(last.loss) ? last.loss : null,
      tokensPerSecond: last.seconds > 0 ? Number(last.tokens) / last.seconds : null,
      remainingSeconds: Math.max(0, totalSteps - last.step) * meanSeconds(report),
    },
  };
}

/** Steps whose loss is not finite stay out of the curve; the run's end says that it diverged. */
function metricsOf({ steps, epoch }: ReportRequest): RunReportBatch["metrics"] {
  return steps
    .filter(({ loss, gradientNorm }) => Number.isFinite(loss) && Number.isFinite(gradientNorm))
    .map(({ step, loss, learningRate, gradientNorm, seconds, tokens, memoryBytes, timeMs, attempt }) => ({
      step,
      loss,
      learningRate,
      gradientNorm,
      seconds,
      attempt: attempt === 0 ? epoch : attempt,
      tokens: Number(tokens),
      memoryBytes: Number(memoryBytes),
      time: new Date(Number(timeMs)).toISOString(),
    }));
}

function checkpointsOf(
  run: InternalRun,
  { checkpoints, epoch }: ReportRequest,
  time: string,
): RunReportBatch["checkpoints"] {
  return checkpoints.map(({ step, key, sizeBytes, manifestSha256, isBest }) => ({
    runId: run.id,
    step,
    attempt: epoch,
    key,
    sizeBytes: Number(sizeBytes),
    manifestSha256,
    isBest,
    scores: null,
    createdAt: time,
  }));
}

function eventsOf(
  report: ReportRequest,
  evaluations: readonly RunEvaluation[],
  time: string,
): NonNullable<RunReportBatch["events"]> {
  const { epoch, rank, sequence } = report;
  const lastStep = report.steps.at(-1)?.step ?? null;
  const event = (
    key: string,
    type: "checkpoint.saved" | "evaluation.finished" | "warning",
    reason: RunTransition["reason"],
    message: string,
    step: number | null,
  ) => ({
    key,
    time,
    actor: "worker",
    type,
    from: null,
    to: null,
    reason,
    message,
    attempt: epoch,
    step,
  });
  return [
    ...report.checkpoints.map(({ step }) =>
      event(
        `checkpoint-${epoch}-${step}`,
        "checkpoint.saved",
        "step-finished",
        `checkpoint of step ${step} is saved`,
        step,
      ),
    ),
    ...evaluations.map(({ phase, step, scores }) =>
      event(
        `evaluation-${phase}-${step}`,
        "evaluation.finished",
        phase === "after" ? "final-evaluation" : phase === "before" ? "baseline-evaluation" : "step-finished",
        `evaluation ${phase === "during" ? `at step ${step}` : phase}: ${scoresText(scores)}`,
        step,
      ),
    ),
    ...report.logLines
      .filter(({ level }) => level === "warn")
      .map(({ message }, index) =>
        event(
          `warning-${epoch}-${rank === 0 ? "" : `${rank}-`}${sequence}-${index}`,
          "warning",
          "step-finished",
          rank === 0 ? message : `rank ${rank}: ${message}`,
          lastStep,
        ),
      ),
  ];
}

/** The same evaluation has the same id in every attempt, so that one done again replaces its row. */
function evaluationIdOf(runId: string, { phase, step }: RunEvaluation): string {
  return `eval_${runId.replace(/^run_/, "")}-${phase}-${step}`;
}

function evaluationUpdateOf(
  run: InternalRun,
  { phase, step, scores, samples, seconds, resultsKey }: RunEvaluation,
): EvaluationUpdate {
  return {
    runId: run.id,
    phase,
    step,
    state: "succeeded",
    message: scoresText(scores),
    spec: evaluationSpecOf(run),
    scores,
    samples,
    seconds,
    resultsKey: resultsKey === "" ? null : resultsKey,
  };
}

function meanSeconds({ steps }: ReportRequest): number {
  return steps.reduce((sum, { seconds }) => sum + seconds, 0) / Math.max(1, steps.length);
}

function phaseOf(text: string): "before" | "during" | "after" {
  return text === "before" || text === "after" ? text : "during";
}

function scoresText(scores: Readonly<Record<string, number>>): string {
  return Object.entries(scores)
    .map(([name, value]) => `${name} ${value.toFixed(1)}`)
    .join(", ");
}

function transitionOf(report: ReportRequest, step: number | null): RunTransition | null {
  const at = (
    key: string,
    to: "running" | "evaluating",
    reason: RunTransition["reason"],
    message: string,
  ): RunTransition => ({ key: `${report.epoch}-${key}`, to, reason, message, attempt: report.epoch, step });
  switch (report.phase) {
    case Phase.LOADING:
      return at("loading", "running", "worker-joined", "the worker is here and loads the model");
    case Phase.EVALUATING_BEFORE:
      return at("before", "running", "baseline-evaluation", "scoring the base on the validation split");
    case Phase.TRAINING:
      return at("training", "running", "step-finished", "training");
    case Phase.EVALUATING_DURING:
      return null;
    case Phase.EVALUATING_AFTER:
      return at("after", "evaluating", "final-evaluation", "scoring the trained model on the validation split");
    case Phase.SAVING:
      return at("saving", "evaluating", "final-evaluation", "writing the model");
    case Phase.UNSPECIFIED:
      return null;
  }
}

function evaluationSpecOf({ spec }: InternalRun): EvaluationSpec {
  return {
    model: spec.model,
    dataset: spec.dataset,
    task: spec.task,
    ...(spec.systemPrompt === undefined ? {} : { systemPrompt: spec.systemPrompt }),
    ...(spec.evaluation.metrics ? { metrics: spec.evaluation.metrics } : {}),
    maxNewTokens: spec.evaluation.maxNewTokens,
    image: spec.image,
  };
}
