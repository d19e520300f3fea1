import { Phase, type ReportRequest } from "@drydock/proto";
import type { EvaluationSpec, EvaluationUpdate, InternalRun, RunReportBatch, RunTransition } from "@drydock/spec";

/** What one worker report means for the api: rows, a state, evaluations. Pure, so that a report sent twice means the same. */
export interface ReportMeaning {
  readonly batch: RunReportBatch;
  readonly transition: RunTransition | null;
  readonly evaluations: readonly { readonly id: string; readonly update: EvaluationUpdate }[];
}

export function meaningOf(run: InternalRun, report: ReportRequest, now: Date): ReportMeaning {
  const time = now.toISOString();
  const last = report.steps.at(-1);
  const totalSteps = run.plan.steps.total;
  const phases = report.evaluations.map((evaluation) => ({ ...evaluation, phase: phaseOf(evaluation.phase) }));
  const scored = (phase: "before" | "after"): Record<string, Record<string, number>> => {
    const found = phases.findLast((evaluation) => evaluation.phase === phase);
    return found ? { [phase]: found.scores } : {};
  };
  return {
    batch: {
      ...(last
        ? {
            progress: {
              step: last.step,
              totalSteps,
              epoch: last.epoch,
              loss: Number.isFinite(last.loss) ? last.loss : null,
              tokensPerSecond: last.seconds > 0 ? Number(last.tokens) / last.seconds : null,
              remainingSeconds: (totalSteps - last.step) * meanSeconds(report),
            },
          }
        : {}),
      metrics: report.steps
        .filter(({ loss, gradientNorm }) => Number.isFinite(loss) && Number.isFinite(gradientNorm))
        .map((step) => ({
          step: step.step,
          attempt: report.epoch,
          time: new Date(Number(step.timeMs)).toISOString(),
          loss: step.loss,
          learningRate: step.learningRate,
          gradientNorm: step.gradientNorm,
          tokens: Number(step.tokens),
          seconds: step.seconds,
          memoryBytes: Number(step.memoryBytes),
        })),
      checkpoints: report.checkpoints.map((checkpoint) => ({
        runId: run.id,
        step: checkpoint.step,
        attempt: report.epoch,
        key: checkpoint.key,
        sizeBytes: Number(checkpoint.sizeBytes),
        manifestSha256: checkpoint.manifestSha256,
        isBest: checkpoint.isBest,
        scores: null,
        createdAt: time,
      })),
      events: [
        ...report.checkpoints.map((checkpoint) => event(`checkpoint-${report.epoch}-${checkpoint.step}`, "checkpoint.saved", `checkpoint of step ${checkpoint.step} is saved`, checkpoint.step)),
        ...phases.map((evaluation) => event(`evaluation-${evaluation.phase}-${evaluation.step}`, "evaluation.finished", `evaluation ${evaluation.phase === "during" ? `at step ${evaluation.step}` : evaluation.phase}: ${scoresText(evaluation.scores)}`, evaluation.step)),
        ...report.logLines
          .filter(({ level }) => level === "warn")
          .map(({ message }, index) => event(`warning-${report.epoch}-${report.sequence}-${index}`, "warning", message, last?.step ?? null)),
      ],
      ...(phases.length > 0 ? { scores: { ...scored("before"), ...scored("after") } } : {}),
    },
    transition: transitionOf(report, last?.step ?? null),
    evaluations: phases.map((evaluation) => ({
      id: `eval_${run.id.replace(/^run_/, "")}-${evaluation.phase}-${evaluation.step}`,
      update: {
        runId: run.id,
        phase: evaluation.phase,
        step: evaluation.step,
        state: "succeeded",
        message: scoresText(evaluation.scores),
        spec: evaluationSpecOf(run),
        scores: evaluation.scores,
        samples: evaluation.samples,
        seconds: evaluation.seconds,
        resultsKey: evaluation.resultsKey === "" ? null : evaluation.resultsKey,
      },
    })),
  };

  function event(key: string, type: "checkpoint.saved" | "evaluation.finished" | "warning", message: string, step: number | null) {
    return { key, time, actor: "worker", type, from: null, to: null, reason: "step-finished" as const, message, attempt: report.epoch, step };
  }
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
  const at = (key: string, to: "running" | "evaluating", reason: RunTransition["reason"], message: string): RunTransition => ({ key: `${report.epoch}-${key}`, to, reason, message, attempt: report.epoch, step });
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
