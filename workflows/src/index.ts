export type * from "./activities.ts";
export { dataset } from "./dataset.ts";
export { evaluationRun } from "./evaluation-run.ts";
export { cancelSignal, fineTuneRun, pauseSignal, resizeSignal, resumeSignal } from "./fine-tune-run.ts";
export { sweep } from "./sweep.ts";
export { pipeline } from "./pipeline.ts";
