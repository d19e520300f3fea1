import type { PipelineStage } from "./pipeline-stage.ts";

interface SharedTensor {
  readonly name: string;
  readonly values: Float32Array;
  readonly gradient: Float32Array;
}

/**
 * Weights that the first stage and the last one both use: the embedding of a model whose head is the same matrix. The first
 * stage updates them, from the gradients of both, and gives the last one their new values.
 */
export class SharedEnds {
  readonly #place: PipelineStage;
  readonly #tensors: readonly SharedTensor[];

  /** @param tensors  in an order that is the same at both ends */
  constructor(place: PipelineStage, tensors: readonly SharedTensor[]) {
    this.#place = place;
    this.#tensors = tensors;
  }

  has(name: string): boolean {
    return this.#tensors.some((tensor) => tensor.name === name);
  }

  /** Adds the last stage's gradients to the first one's; answers with the weights whose sums are final now. */
  async addUp(): Promise<readonly string[]> {
    const { ends, next } = this.#place;
    if (!ends || this.#tensors.length === 0) return [];
    if (!next) {
      ends.send(
        "back",
        this.#tensors.map(({ gradient }) => gradient),
      );
      return [];
    }
    const parts = await ends.receive("back");
    this.#tensors.forEach(({ gradient }, tensor) => {
      const part = parts[tensor] as Float32Array;
      for (let index = 0; index < gradient.length; index++)
        gradient[index] = (gradient[index] as number) + (part[index] as number);
    });
    return this.#tensors.map(({ name }) => name);
  }

  /** Gives the last stage what the first one made of the weights. */
  async share(): Promise<void> {
    const { ends, next } = this.#place;
    if (!ends || this.#tensors.length === 0) return;
    if (next)
      return ends.send(
        "forward",
        this.#tensors.map(({ values }) => values),
      );
    const parts = await ends.receive("forward");
    this.#tensors.forEach(({ values }, tensor) => values.set(parts[tensor] as Float32Array));
  }
}
