import { drydockGpuRecipe, mixedPrecisionState, fp32State, type MemoryRecipe } from "../../src/planner/recipe.ts";

/** How the programs behind the published figures spend memory. They differ from one another in documented switches only. */

/** Transformers, ms-swift and Megatron: head on every position, logits in bf16 and fp32 and their gradients, FlashAttention. */
const torch: MemoryRecipe = {
  ...drydockGpuRecipe,
  name: "torch",
  full: mixedPrecisionState,
  adapter: fp32State,
  // prepare_model_for_kbit_training widens everything that is not quantized to fp32.
  quantizedBaseOtherBytes: 4,
  unpackedBytes: { int8: 0, nf4: 0 },
  logitBytes: 12,
  logitBytesQuantizedBase: 8,
  logitRows: "all",
  attention: "tiled",
  contextBytes: 1.4e9,
  collectiveBytes: 0.8e9,
};

/** Loss fused with the output head (liger, cut cross entropy). */
const fusedLoss: MemoryRecipe = { ...torch, name: "torch, fused loss", logitBytes: 0, logitBytesQuantizedBase: 0 };

export const recipes = {
  torch,
  fusedLoss,
  /** Parameters, gradients and moments all in bf16. */
  pureBf16: { ...torch, name: "torch, pure bf16", full: { weight: 2, gradient: 2, optimizer: 4 }, updateBytes: 4 },
  /** Fused loss and moments in 8 bits. */
  adam8bit: {
    ...fusedLoss,
    name: "torch, fused loss, 8-bit Adam",
    full: { weight: 2, gradient: 2, optimizer: 2 },
    updateBytes: 0,
  },
  /** Fused loss, 8-bit Adam, 16-bit embeddings beside 4-bit layers; figures are PyTorch's own, without the driver's context. */
  unsloth: {
    ...fusedLoss,
    name: "unsloth",
    quantizedBaseOtherBytes: 2,
    adapter: { weight: 4, gradient: 4, optimizer: 2 },
    contextBytes: 0,
  },
  /** 4-bit layers with 16-bit embeddings and a fused loss. */
  axolotl: { ...fusedLoss, name: "axolotl", quantizedBaseOtherBytes: 2 },
  /** fp32 parameters under autocast. */
  autocast: { ...torch, name: "torch autocast", full: { weight: 4, gradient: 4, optimizer: 8 } },
} as const satisfies Record<string, MemoryRecipe>;

export type RecipeName = keyof typeof recipes;

export const recipeNames = Object.keys(recipes) as readonly RecipeName[];
