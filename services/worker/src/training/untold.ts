import { Scores } from "@drydock/spec";
import { z } from "zod";

/**
 * What happened and nobody has acknowledged yet. It goes with each checkpoint: a worker that is lost while the controller is
 * away would otherwise take with it the measures of steps that no attempt takes again.
 */
export const Untold = z.object({
  steps: z.array(
    z.object({
      step: z.int().positive(),
      /** Null stands for a measure that was not finite: JSON has no other word for it. */
      loss: z.number().nullable(),
      learningRate: z.number(),
      gradientNorm: z.number().nullable(),
      tokens: z.int().nonnegative(),
      seconds: z.number().nonnegative(),
      memoryBytes: z.number().nonnegative(),
      epoch: z.number().nonnegative(),
      timeMs: z.number(),
      /** The attempt that took the step. */
      attempt: z.int().positive(),
    }),
  ),
  evaluations: z.array(
    z.object({
      phase: z.enum(["before", "during", "after", "standalone"]),
      step: z.int().nonnegative(),
      scores: Scores,
      samples: z.int().nonnegative(),
      seconds: z.number().nonnegative(),
      resultsKey: z.string(),
    }),
  ),
});
export type Untold = z.infer<typeof Untold>;

export const nothingUntold: Untold = { steps: [], evaluations: [] };
