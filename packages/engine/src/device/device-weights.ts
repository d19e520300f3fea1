import type { Shape } from "../graph/shape.ts";
import { findTensor } from "../weights/find-tensor.ts";
import { readWeights } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { readEntryBytes } from "../weights/safetensors.ts";
import type { Device } from "./device.ts";
import { deviceNames } from "./update-model.ts";

type HalfType = "float16" | "bfloat16";
const halfTypes: Readonly<Record<string, HalfType>> = { BF16: "bfloat16", F16: "float16" };

/** Frozen weights of a model on a device, each put there when a graph first needs it, in the type in which it is stored. */
export class DeviceWeights {
  readonly #device: Device;
  readonly #folder: ModelFolder;
  readonly #known = new Map<string, Promise<void>>();

  constructor(device: Device, folder: ModelFolder) {
    this.#device = device;
    this.#folder = folder;
  }

  /** Name on the device of a graph input that is a frozen weight; null for other inputs. */
  storedName(input: string): string | null {
    const weight = input.replace(/:stored$/, "");
    return this.#known.has(weight) ? deviceNames.frozen(weight) : null;
  }

  /** Types of the weights that are not stored in float32. */
  typesOf(shapes: ReadonlyMap<string, Shape>): Map<string, HalfType> {
    return new Map(
      [...shapes].flatMap(([name, shape]): [string, HalfType][] => {
        if (this.#folder.quantized?.has(name)) return [];
        const type = halfTypes[findTensor(this.#folder, name, shape.map(Number)).entry.type];
        return type ? [[name, type]] : [];
      }),
    );
  }

  /** @throws InvalidError when the folder lacks a weight */
  async put(shapes: ReadonlyMap<string, Shape>): Promise<void> {
    for (const [name, shape] of shapes) {
      let known = this.#known.get(name);
      if (!known) this.#known.set(name, (known = this.#put(name, shape.map(Number))));
      await known;
    }
  }

  async #put(name: string, shape: readonly number[]): Promise<void> {
    const quantized = this.#folder.quantized;
    if (quantized?.has(name)) {
      const { data } = await quantized.get(name);
      const type = data instanceof Uint8Array ? "uint8" : "float32";
      return await this.#device.put({ name: deviceNames.frozen(name), data, shape, type });
    }
    const { header, entry } = findTensor(this.#folder, name, shape);
    const type = halfTypes[entry.type];
    if (!type) {
      const data = (await readWeights(this.#folder, [name])).get(name) as Float32Array;
      return await this.#device.put({ name: deviceNames.frozen(name), data, shape, type: "float32" });
    }
    const bytes = (await readEntryBytes(header.path, entry)).slice();
    const data = new Uint16Array(bytes.buffer, 0, bytes.byteLength / Uint16Array.BYTES_PER_ELEMENT);
    await this.#device.put({ name: deviceNames.frozen(name), data, shape, type });
  }
}
