import { defaultMetrics } from "@drydock/data";
import {
  RunSpec,
  bestOf,
  plannedTrials,
  rungSteps,
  trialParameters,
  trialRun,
  type ParallelCoordinates,
  type Sweep,
  type SweepBest,
  type SweepFacts,
  type SweepRung,
  type SweepSpec,
  type SweepTrial,
} from "@drydock/spec";
import { gpuHoursOf } from "../scheduling/gpu-hours.ts";
import { etagOfSweep, type SweepRow, type TrialRecord } from "../store/sweep-store.ts";

/** What trials are compared by, and which way is better. */
export function goalOf(spec: SweepSpec): { readonly metric: string; readonly goal: "max" | "min" } {
  const first = RunSpec.parse(trialRun(spec, trialParameters(spec, 1)));
  const metric = spec.metric ?? first.evaluation.metrics?.[0] ?? (defaultMetrics[first.task][0] as string);
  return { metric, goal: spec.goal ?? (metric === "loss" ? "min" : "max") };
}

/** Steps at which the training loss is looked at; null when trials are compared by a metric of their evaluations. */
export function lossStepsOf(spec: SweepSpec): readonly number[] | null {
  if (goalOf(spec).metric !== "loss") return null;
  return spec.search.kind === "asha" ? rungSteps(spec.search) : [];
}

export function toSweep(row: SweepRow, records: readonly TrialRecord[]): Sweep {
  const { metric, goal } = goalOf(row.spec);
  const trials = records.map((record) => toTrial(record, metric));
  const count = (...states: SweepTrial["state"][]): number =>
    trials.filter(({ state }) => states.includes(state)).length;
  const { id, name, state, message, spec, maxParallel, parent, createdAt, updatedAt, endedAt } = row;
  return {
    id,
    name,
    state,
    message,
    spec,
    metric,
    goal,
    maxParallel,
    parent,
    best: bestTrial(records, metric, goal),
    trials: {
      planned: plannedTrials(spec),
      started: trials.length,
      running: count("running", "paused"),
      stopped: count("stopped"),
      succeeded: count("succeeded"),
      failed: count("failed"),
    },
    steps: trials.reduce((sum, { steps }) => sum + steps, 0),
    gpuHours: usedBy(records, new Date()),
    etag: etagOfSweep(row),
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
    endedAt: endedAt?.toISOString() ?? null,
  };
}

export function toTrial(record: TrialRecord, metric: string): SweepTrial {
  const { trial, run } = record;
  const rungs = rungsOf(record, metric);
  return {
    number: trial.number,
    runId: trial.runId,
    state: stateOf(record),
    message: trial.message === "" ? (run?.message ?? "") : trial.message,
    parameters: trial.parameters,
    rungs,
    score: finalScoreOf(record, metric) ?? rungs.at(-1)?.score ?? null,
    steps: run?.progress.step ?? 0,
    model: run?.model ?? null,
  };
}

export function factsOf(row: SweepRow, records: readonly TrialRecord[]): SweepFacts {
  const { metric, goal } = goalOf(row.spec);
  return {
    id: row.id,
    state: row.state,
    search: row.spec.search,
    goal,
    planned: plannedTrials(row.spec),
    maxParallel: row.maxParallel,
    gpuHours: usedBy(records, new Date()),
    budgetGpuHours: row.spec.budget.gpuHours ?? null,
    trials: records.map((record) => ({
      number: record.trial.number,
      runId: record.trial.runId,
      decision: record.trial.state,
      runState: record.run?.state ?? null,
      message: record.trial.message === "" ? (record.run?.message ?? "") : record.trial.message,
      rungs: rungsOf(record, metric),
      finalScore: finalScoreOf(record, metric),
      scores: record.run?.scoresAfter ?? null,
    })),
  };
}

export function parallelCoordinates(
  spec: SweepSpec,
  metric: string,
  trials: readonly SweepTrial[],
): ParallelCoordinates {
  const fields = Object.keys(spec.space);
  const scaleOf = (field: string): "log" | "linear" | "category" => {
    const type = spec.space[field]?.type;
    return type === "choice" ? "category" : type === "log" ? "log" : "linear";
  };
  const lines = trials.map(({ number, state, parameters, score }) => ({
    trial: number,
    state,
    values: [...fields.map((field) => parameters[field]), score],
  }));
  return {
    axes: [
      ...fields.map((field) => ({
        name: field,
        scale: scaleOf(field),
        values: [...new Set(trials.map(({ parameters }) => parameters[field]))],
      })),
      { name: metric, scale: "linear", values: trials.map(({ score }) => score) },
    ],
    lines,
  };
}

function bestTrial(records: readonly TrialRecord[], metric: string, goal: "max" | "min"): SweepBest | null {
  const best = bestOf(
    records.map((record) => ({
      record,
      runState: record.run?.state ?? null,
      finalScore: finalScoreOf(record, metric),
    })),
    goal,
  );
  if (!best?.record.run || best.finalScore === null) return null;
  const { record, finalScore } = best;
  return { trial: record.trial.number, runId: best.record.run.id, model: best.record.run.model, score: finalScore };
}

function stateOf({ trial, run }: TrialRecord): SweepTrial["state"] {
  if (run === null) return "failed";
  if (trial.state === "stopped" && run.state !== "succeeded" && run.state !== "failed") return "stopped";
  switch (run.state) {
    case "succeeded":
    case "failed":
    case "cancelled":
      return run.state;
    case "pausing":
    case "paused":
      return "paused";
    default:
      return "running";
  }
}

function rungsOf({ during, losses, run }: TrialRecord, metric: string): SweepRung[] {
  if (metric === "loss") return losses.filter(({ step }) => step < (run?.progress.totalSteps ?? 0));
  return during.flatMap(({ step, scores }) => (scores[metric] === undefined ? [] : [{ step, score: scores[metric] }]));
}

function finalScoreOf({ run, losses }: TrialRecord, metric: string): number | null {
  if (run?.state !== "succeeded") return null;
  return metric === "loss" ? (losses.at(-1)?.score ?? null) : (run.scoresAfter?.[metric] ?? null);
}

/** A trial that never became a run has used nothing. */
function usedBy(records: readonly TrialRecord[], now: Date): number {
  const hours = records.map(({ run, attempts }) =>
    run === null ? 0 : gpuHoursOf({ state: run.state, layout: run.plan.layout, attempts }, now),
  );
  return hours.reduce((sum, each) => sum + each, 0);
}
