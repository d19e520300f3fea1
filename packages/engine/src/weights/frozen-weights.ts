import type { FeedTensor } from "../runtime/feeds.ts";
import { toShared } from "../runtime/shared-floats.ts";
import { readWeights, type ModelFolder } from "./model-folder.ts";

/** Weights of a model as float32 in shared memory, each read when it is first asked for. */
export class FrozenWeights {
  readonly #folder: ModelFolder;
  readonly #known = new Map<string, Promise<FeedTensor>>();

  constructor(folder: ModelFolder) {
    this.#folder = folder;
  }

  /** @throws InvalidError when the folder lacks the weight */
  async get(name: string, shape: readonly number[]): Promise<FeedTensor> {
    let known = this.#known.get(name);
    if (!known) this.#known.set(name, (known = this.#read(name, shape)));
    return await known;
  }

  async #read(name: string, shape: readonly number[]): Promise<FeedTensor> {
    const data = (await readWeights(this.#folder, [name])).get(name) as Float32Array;
    return { data: toShared(data), shape };
  }
}
