import type { BaseWeights, ModelFacts } from "../catalogue/model-facts.ts";
import type { RunSpec } from "../contract/run-spec.ts";

/** Bytes per trainable parameter. */
export interface StateBytes {
  readonly weight: number;
  readonly gradient: number;
  /** Moments, and the fp32 master copy where the weight itself is 16-bit. */
  readonly optimizer: number;
}

/**
 * How a training program spends memory. The architecture says how many values there are; the recipe how many bytes each
 * takes. One recipe describes Drydock's engine on a GPU, one on the CPU; the tests describe the programs whose
 * published figures the formulas are held against.
 */
export interface MemoryRecipe {
  readonly name: string;
  /** Bytes of an activation. */
  readonly activationBytes: number;
  /** Bytes of a frozen weight that is not quantized. */
  readonly frozenBytes: number;
  /** Bytes of embeddings and output head when the decoder's linear layers are quantized. */
  readonly quantizedBaseOtherBytes: number;
  /**
   * Bytes a weight of the one linear layer that is unpacked at a time. Drydock: float32 values, and of 4 bits also the indices
   * (int32 for two weights) of the look-up and the values before their scales.
   */
  readonly unpackedBytes: Readonly<Record<Exclude<BaseWeights, "bf16">, number>>;
  /** Base weights in full fine-tuning. */
  readonly full: StateBytes;
  readonly adapter: StateBytes;
  /** Temporaries of the optimizer step, per parameter of the group being updated. */
  readonly updateBytes: number;
  /** Most parameters updated at once. */
  readonly updateGroupParameters: number;
  /** Bytes per logit from the matrix product to its gradient; 0 when the loss is fused with the output head. */
  readonly logitBytes: number;
  /** The same when the base is quantized (an fp32 head has no 16-bit copies). */
  readonly logitBytesQuantizedBase: number;
  /** `labels`: the head runs on the answer's positions only. */
  readonly logitRows: "all" | "labels";
  /** `explicit` keeps the attention matrix of a layer in memory; `tiled` does not (FlashAttention). */
  readonly attention: "explicit" | "tiled";
  /** Reserved over allocated memory for activations and logits: what the allocator cannot reuse. */
  readonly allocatorFactor: number;
  /** Driver context, libraries and the program itself. */
  readonly contextBytes: number;
  /** Buffers of the collectives, when there is more than one rank. */
  readonly collectiveBytes: number;
  /** Whether the engine's sessions on the CPU count: see processor-memory.ts. */
  readonly isProcessor: boolean;
  /** Whether the process answers, too, as for an evaluation. */
  readonly answers: boolean;
}

/**
 * Bits per weight of the decoder's linear layers, constants of the blocks included: NF4 4 bits + one fp32 scale per 64
 * weights (no double quantization), int8 8 bits + one fp32 scale per 64 weights.
 */
export const bitsPerWeight: Record<BaseWeights, number> = { bf16: 16, int8: 8.5, nf4: 4.5 };

/** What memory and time are counted by: the spec's wish, or what a folder holds; all formats of 4 bits are as large. */
export function countedAs(spec: Pick<RunSpec, "training">, { storedIn }: Pick<ModelFacts, "storedIn">): BaseWeights {
  if (storedIn === undefined) return spec.training.baseWeights;
  return storedIn === "int8" ? "int8" : "nf4";
}

/** AdamW with mixed precision: 2 B weight + 4 B accumulated gradient + 12 B (fp32 master, two moments) = 18 B a parameter. */
export const mixedPrecisionState: StateBytes = { weight: 2, gradient: 4, optimizer: 12 };

/** AdamW on fp32 parameters: 16 B a parameter. Adapters are fp32 even on a 16-bit base. */
export const fp32State: StateBytes = { weight: 4, gradient: 4, optimizer: 8 };

/** Drydock's engine on a GPU: bf16 compute, fp32 master weights, blocks recomputed, head and loss on the answer's rows. */
export const drydockGpuRecipe: MemoryRecipe = {
  name: "drydock on a GPU",
  activationBytes: 2,
  frozenBytes: 2,
  quantizedBaseOtherBytes: 2,
  unpackedBytes: { int8: 4, nf4: 10 },
  full: mixedPrecisionState,
  adapter: fp32State,
  updateBytes: 8,
  updateGroupParameters: 1e9,
  logitBytes: 12,
  logitBytesQuantizedBase: 12,
  logitRows: "labels",
  attention: "explicit",
  allocatorFactor: 1.1,
  // The collectives' 0.8 GB are reserved from the first GPU on, so that a run can be given more GPUs.
  contextBytes: 2.2e9,
  collectiveBytes: 0,
  isProcessor: false,
  answers: true,
};

/** Drydock's engine on the CPU: everything in fp32. The context is Node, ONNX Runtime and the picture pipeline. */
export const drydockCpuRecipe: MemoryRecipe = {
  ...drydockGpuRecipe,
  name: "drydock on the CPU",
  activationBytes: 4,
  frozenBytes: 4,
  quantizedBaseOtherBytes: 4,
  full: fp32State,
  updateBytes: 0,
  contextBytes: 4e8,
  isProcessor: true,
};
