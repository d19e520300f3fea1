import { processorMemory } from "@drydock/spec";
import type { Feeds, FeedTensor } from "../runtime/feeds.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { FloatReader } from "./float-reader.ts";
import { findTensor } from "./find-tensor.ts";
import type { ModelFolder } from "./model-folder.ts";

interface Held {
  readonly tensor: FeedTensor & { readonly data: Float32Array };
  readonly ready: Promise<void>;
  users: number;
}

/** Weights that are read and stay until they are released. */
export interface BorrowedWeights {
  readonly feeds: Readonly<Record<string, FeedTensor>>;
  release(): void;
}

/**
 * Frozen weights of a model as float32 in shared memory. They are read when they are asked for and stay while they fit in the
 * capacity; of a larger model those that were not used for longest make room, so that it streams through a few layers'
 * memory. Memory of a weight goes to the next one of its size: layers that are alike follow each other in the same arrays,
 * and none waits for the garbage collection of two threads. What is in few bits stays as it is, and stays read.
 */
export class FrozenWeights {
  readonly #folder: ModelFolder;
  readonly #capacityBytes: number;
  /** Longest unused first. */
  readonly #held = new Map<string, Held>();
  readonly #reader = new FloatReader();
  /** Arrays that were let go: two threads would keep them long before they are collected, so they are used again. */
  readonly #spare: Float32Array[] = [];
  #heldBytes = 0;
  #reads: Promise<void> = Promise.resolve();

  constructor(folder: ModelFolder, capacityBytes: number = processorMemory.streamedBytes) {
    this.#folder = folder;
    this.#capacityBytes = capacityBytes;
  }

  /** Bytes of the values that are held now. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /**
   * @param shapes  of the weights wanted, by name
   * @throws InvalidError when the folder lacks one, it has another shape, or a number in it is not finite
   */
  async borrow(shapes: ReadonlyMap<string, readonly number[]>): Promise<BorrowedWeights> {
    const quantized = await quantizedFeeds(this.#folder, shapes.keys());
    const floats = [...shapes].filter(([name]) => !quantized[name]);
    const taken = floats.map(([name, shape]): [string, Held] => [name, this.#take(name, shape)]);
    const release = (): void => {
      for (const [, held] of taken) held.users--;
      taken.length = 0;
      this.#makeRoom(0);
    };
    try {
      await Promise.all(taken.map(async ([, { ready }]) => await ready));
    } catch (error) {
      release();
      throw error;
    }
    const feeds = { ...quantized, ...Object.fromEntries(taken.map(([name, { tensor }]) => [name, tensor])) };
    return { feeds, release };
  }

  #take(name: string, shape: readonly number[]): Held {
    const known = this.#held.get(name);
    const held = known ?? this.#read(name, shape);
    held.users++;
    this.#held.delete(name);
    this.#held.set(name, held);
    return held;
  }

  #read(name: string, shape: readonly number[]): Held {
    const { header, entry } = findTensor(this.#folder, name, shape);
    const data = this.#memory(shape.reduce((count, size) => count * size, 1));
    // One file read at a time: the buffer is one, and two would only take the disk from each other.
    const ready = this.#reads.then(async () => await this.#reader.read(header.path, entry, data, true));
    this.#reads = ready.catch(() => {
      // Told by `ready` to whoever asked; asked again, it is read again.
      if (this.#held.delete(name)) this.#heldBytes -= data.byteLength;
    });
    return { tensor: { data, shape }, ready, users: 0 };
  }

  #memory(length: number): Float32Array {
    const bytes = length * Float32Array.BYTES_PER_ELEMENT;
    if (this.#heldBytes + bytes > this.#capacityBytes) {
      for (const [name, { tensor, users }] of this.#held) {
        if (users > 0 || tensor.data.length !== length) continue;
        this.#held.delete(name);
        return tensor.data;
      }
      this.#makeRoom(bytes);
    }
    this.#heldBytes += bytes;
    const spare = this.#spare.findIndex((array) => array.length === length);
    return spare >= 0 ? (this.#spare.splice(spare, 1)[0] as Float32Array) : sharedFloats(length);
  }

  /** Lets go of weights that nobody uses until `bytes` more fit. */
  #makeRoom(bytes: number): void {
    for (const [name, { tensor, users }] of this.#held) {
      if (this.#heldBytes + bytes <= this.#capacityBytes) return;
      if (users > 0) continue;
      this.#held.delete(name);
      this.#heldBytes -= tensor.data.byteLength;
      this.#spare.push(tensor.data);
    }
  }
}

/**
 * The parts of quantized layers among some weights.
 *
 * @param wanted  which of them; default all
 */
export async function quantizedFeeds(
  { quantized }: Pick<ModelFolder, "quantized">,
  names: Iterable<string>,
  wanted: (name: string) => boolean = () => true,
): Promise<Feeds> {
  const feeds: Feeds = {};
  if (quantized)
    for (const name of names) if (quantized.has(name) && wanted(name)) feeds[name] = await quantized.get(name);
  return feeds;
}
