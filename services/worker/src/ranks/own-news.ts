import type { TrainingListener } from "../training/training-listener.ts";

/** What a rank after the first has to tell: its phases and steps. What all ranks did together, rank 0 tells. */
export function ownNewsOf(listener: TrainingListener): TrainingListener {
  return {
    phaseChanged: (phase) => listener.phaseChanged(phase),
    stepFinished: (report) => listener.stepFinished(report),
    checkpointSaved: () => undefined,
    evaluationFinished: () => undefined,
    log: () => undefined,
  };
}
