/** How the learning rate moves over a run. */
export interface Schedule {
  readonly kind: "cosine" | "linear" | "constant";
  readonly learningRate: number;
  /** Share of all steps that warm up from 0. */
  readonly warmupRatio: number;
  readonly totalSteps: number;
}

/**
 * Learning rate of the step that follows `finishedSteps` steps. Warm-up is linear from 0, so with any warm-up the very
 * first step has rate 0; `constant` has none when `warmupRatio` is 0. Source: `get_*_schedule_with_warmup` of
 * huggingface/transformers `optimization.py`.
 */
export function learningRateAt(
  { kind, learningRate, warmupRatio, totalSteps }: Schedule,
  finishedSteps: number,
): number {
  const warmup = Math.ceil(warmupRatio * totalSteps);
  if (finishedSteps < warmup) return (learningRate * finishedSteps) / Math.max(1, warmup);
  const progress = (finishedSteps - warmup) / Math.max(1, totalSteps - warmup);
  switch (kind) {
    case "constant":
      return learningRate;
    case "linear":
      return learningRate * Math.max(0, 1 - progress);
    case "cosine":
      return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
  }
}
