import { z } from "zod";
import { CheckpointFile } from "./run.ts";

/** Where in the data the next step starts. */
export const DataCursor = z.object({
  epoch: z.int().nonnegative(),
  index: z.int().nonnegative(),
  order: z.enum(["shuffled", "sequential"]),
  seed: z.int(),
  rows: z.int().nonnegative(),
});
export type DataCursor = z.infer<typeof DataCursor>;

/** `manifest.json`, written last: a checkpoint exists when its manifest does, and counts only if every digest matches. */
export const CheckpointManifest = z.object({
  format: z.literal("drydock-checkpoint/1"),
  runId: z.string(),
  step: z.int().nonnegative(),
  epoch: z.int().positive(),
  worldSize: z.int().positive(),
  mode: z.enum(["lora", "full"]),
  files: z.array(CheckpointFile).min(1),
  dataCursor: DataCursor,
  rng: z.object({ seed: z.int(), step: z.int().nonnegative() }),
  createdAt: z.iso.datetime(),
});
export type CheckpointManifest = z.infer<typeof CheckpointManifest>;
