import type { TrainedTensor } from "./trained-tensor.ts";
import { ThreadClient } from "../runtime/thread-client.ts";
import { blocksOf, type OptimizerRequest } from "./optimizer-messages.ts";

/** Settings of AdamW as torch names them. */
export interface AdamWSettings {
  readonly betas: readonly [number, number];
  readonly epsilon: number;
  readonly weightDecay: number;
}

/**
 * Whether the reference's trainer decays a weight: not biases, not layer norms, not names with a part `norm` or ending in
 * `_norm`. Source: `get_parameter_names`, `Trainer.get_decay_parameter_names` of huggingface/transformers.
 *
 * @param isLayerNorm  true for weights of a LayerNorm (an RMS norm under another name is decayed)
 */
export function isDecayed(name: string, isLayerNorm: boolean): boolean {
  const lower = name.toLowerCase();
  if (isLayerNorm || /bias|layernorm|rmsnorm/.test(lower)) return false;
  return !lower.split(".").some((part) => part === "norm" || part.endsWith("_norm"));
}

/** Fewer elements than this are not worth another thread. */
const elementsPerThread = 1 << 16;

/**
 * AdamW over tensors in shared memory, on threads of its own: the event loop stays free, and each array is read and
 * written once a step. Threads take blocks of elements; what they compute of a block depends on that block alone, so the
 * result is the same bit for bit whatever the number of threads.
 */
export class ThreadedAdamW {
  readonly #settings: AdamWSettings;
  readonly #threads: readonly ThreadClient<OptimizerRequest, null>[];
  readonly #sums: Float64Array;
  readonly #next = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  readonly #hold: OptimizerRequest;
  #isHeld = false;

  /** @param tensors  their arrays in shared memory (`sharedFloats`) */
  constructor(tensors: readonly TrainedTensor[], settings: AdamWSettings, threads: number) {
    const elements = tensors.reduce((sum, { values }) => sum + values.length, 0);
    const useful = Math.min(threads, Math.ceil(elements / elementsPerThread));
    this.#settings = settings;
    this.#sums = new Float64Array(new SharedArrayBuffer(blocksOf(tensors).length * Float64Array.BYTES_PER_ELEMENT));
    this.#threads = Array.from(
      { length: Math.max(1, useful) },
      () => new ThreadClient<OptimizerRequest, null>(new URL("optimizer-thread.ts", import.meta.url)),
    );
    this.#hold = { kind: "hold", tensors, sums: this.#sums, next: this.#next };
  }

  /** L2 norm over all gradients; squares are summed in double precision, block by block in a fixed order. */
  async gradientNorm(): Promise<number> {
    await this.#pass({ kind: "sum" });
    return Math.sqrt(this.#sums.reduce((sum, part) => sum + part, 0));
  }

  /**
   * One AdamW step in place: decoupled decay, bias-corrected moments, ε after the root; single precision, as torch has it.
   * Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; order of operations as torch.optim.AdamW.
   *
   * @param step           counts from 1
   * @param gradientScale  factor on every gradient (1/tokens times the clip coefficient)
   */
  async step(learningRate: number, step: number, gradientScale: number): Promise<void> {
    const { betas, epsilon, weightDecay } = this.#settings;
    const [beta1, beta2] = betas;
    await this.#pass({
      kind: "update",
      factors: {
        scale: gradientScale,
        beta1,
        rest1: 1 - beta1,
        beta2,
        rest2: 1 - beta2,
        keep: 1 - learningRate * weightDecay,
        rate: learningRate / (1 - beta1 ** step),
        rootScale: 1 / Math.sqrt(1 - beta2 ** step),
        epsilon,
      },
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }

  async #pass(request: OptimizerRequest): Promise<void> {
    if (!this.#isHeld) await Promise.all(this.#threads.map((thread) => thread.ask(this.#hold)));
    this.#isHeld = true;
    Atomics.store(this.#next, 0, 0);
    await Promise.all(this.#threads.map((thread) => thread.ask(request)));
  }
}
