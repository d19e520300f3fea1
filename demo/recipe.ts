import type { RunSpecInput } from "@drydock/spec";
import { tinyModelName } from "./tiny-base/architecture.ts";

/** Role, what to look for, the form of the answer, and what not to make up; short, since every row carries it. */
export const systemPrompt =
  "You name what small pictures show. Answer with the name or the box, and only with what the picture shows.";

export const namesMetric = "exact-match";
export const boxesMetric = "f1@0.5";
export const namesDataset = "pantry";
export const boxesDataset = "pantry-boxes";

/** The two ways to train that the demo compares. */
export const modes = ["lora", "full"] as const;
export type DemoMode = (typeof modes)[number];

/** The run spec of one mode, as a person would post it. */
export function runSpecOf(mode: DemoMode, datasetVersion: number): RunSpecInput {
  return {
    name: `pantry-${mode}`,
    model: tinyModelName,
    mode,
    dataset: `${namesDataset}@${datasetVersion}`,
    task: "vqa",
    systemPrompt,
    training: {
      epochs: 100,
      maxSteps: 350,
      globalBatchSize: 32,
      microBatchSize: 32,
      // Adapters of so small a model want a high rate: 30.8 % of names after 300 steps at 4e-3, 40.0 % after 350 at 1e-2.
      learningRate: mode === "lora" ? 1e-2 : 1e-3,
      schedule: "cosine",
      warmupRatio: 0.05,
      seed: 42,
      lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
    },
    checkpoint: { everySteps: 100, keepLast: 1 },
    // The base is scored once, by evaluations of its own.
    evaluation: { before: false, maxNewTokens: 32 },
  };
}
