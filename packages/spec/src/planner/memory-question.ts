import type { Architecture } from "../catalogue/architecture.ts";
import type { BaseWeights } from "../catalogue/model-facts.ts";
import type { MemoryRecipe } from "./recipe.ts";

/** Which parts learn. `copy` trains a second copy of the embeddings beside the frozen one, as PEFT's `modules_to_save` does. */
export interface TrainableParts {
  readonly decoder: "adapter" | "full";
  readonly vision: "frozen" | "adapter" | "full";
  readonly bridge: "frozen" | "full";
  readonly embeddings: "frozen" | "full" | "copy";
}

export interface MemoryLayout {
  readonly dataParallel: number;
  readonly pipelineStages: number;
  /** 1 in every plan of Drydock; other programs split each layer over GPUs. */
  readonly tensorParallel: number;
  /** `optimizer`: moments and master weights are split over the data-parallel ranks; `gradients`: gradients too; `full`: weights too. */
  readonly sharding: "none" | "optimizer" | "gradients" | "full";
  readonly microBatchSize: number;
  readonly accumulationSteps: number;
  readonly recomputeActivations: boolean;
}

/** The longest sample: positions of the decoder, positions with a label, and rows of the vision tower. */
export interface MemorySample {
  readonly tokens: number;
  readonly labels: number;
  readonly patches: number;
  readonly patchesPerSegment: number;
}

export interface MemoryQuestion {
  readonly architecture: Architecture;
  readonly trainable: TrainableParts;
  readonly lora: { readonly rank: number; readonly targets: "all-linear" | readonly string[] } | null;
  readonly baseWeights: BaseWeights;
  readonly layout: MemoryLayout;
  readonly sample: MemorySample;
  readonly recipe: MemoryRecipe;
}
