import type { TrainedTensor } from "./trained-tensor.ts";
import { blockElements, type UpdateFactors } from "./optimizer-kernels.ts";

/** A trained tensor whose arrays lie in shared memory. */
export type SharedTensor = Pick<TrainedTensor, "values" | "gradient" | "firstMoment" | "secondMoment" | "isDecayed">;

/** What an optimizer thread can be asked; it answers when no block is left. */
export type OptimizerRequest =
  | {
      readonly kind: "hold";
      readonly tensors: readonly SharedTensor[];
      /** A sum of squares for each block. */
      readonly sums: Float64Array;
      /** The first block that nobody has taken. */
      readonly next: Int32Array;
    }
  | { readonly kind: "sum" }
  | { readonly kind: "update"; readonly factors: UpdateFactors };

/** The elements from `start` to before `end` of one tensor. */
export interface Block {
  readonly tensor: number;
  readonly start: number;
  readonly end: number;
}

/** Cuts tensors into the blocks that threads take, in the order in which their sums are added. */
export function blocksOf(tensors: readonly Pick<SharedTensor, "values">[]): Block[] {
  return tensors.flatMap(({ values }, tensor) =>
    Array.from({ length: Math.ceil(values.length / blockElements) }, (_, index) => ({
      tensor,
      start: index * blockElements,
      end: Math.min(values.length, (index + 1) * blockElements),
    })),
  );
}
