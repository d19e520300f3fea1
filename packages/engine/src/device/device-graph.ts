import { InvalidError } from "@drydock/kit";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import type { Precision } from "../graph/onnx/encoder.ts";
import type { Node } from "../graph/ops.ts";
import { evaluate } from "../graph/shape.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import type { Device, HostTensor } from "./device.ts";

export interface DeviceRun {
  /** Inputs from the host, by name; names that the graph does not have are ignored. */
  readonly feeds: Feeds;
  readonly symbols: Symbols;
  /** Name on the device of an input that is there; null for one that comes from the host. */
  readonly storedName: (input: string) => string | null;
  /** Outputs that stay on the device, and their names there. */
  readonly kept: Readonly<Record<string, string>>;
  /** Outputs that come back. */
  readonly wanted: readonly string[];
}

/** A graph with its session on a device. */
export class DeviceGraph {
  readonly #device: Device;
  readonly #session: number;
  readonly #outputs: Readonly<Record<string, Node>>;
  readonly #inputNames: readonly string[];
  readonly #dimensions: readonly { readonly name: string; readonly dimension: string }[];

  private constructor(
    device: Device,
    session: number,
    outputs: Readonly<Record<string, Node>>,
    encoded: Pick<ReturnType<typeof encodeOnnx>, "inputNames" | "dimensionInputs">,
  ) {
    this.#device = device;
    this.#session = session;
    this.#outputs = outputs;
    this.#inputNames = encoded.inputNames;
    this.#dimensions = encoded.dimensionInputs;
  }

  static async compile(
    device: Device,
    outputs: Readonly<Record<string, Node>>,
    precision: Precision,
  ): Promise<DeviceGraph> {
    const encoded = encodeOnnx(outputs, new Map(), precision);
    return new DeviceGraph(device, await device.open(encoded.model), outputs, encoded);
  }

  /** Inputs that a run must have, sizes left out. */
  get inputNames(): readonly string[] {
    const sizes = new Set(this.#dimensions.map(({ name }) => name));
    return this.#inputNames.filter((name) => !sizes.has(name));
  }

  get outputNames(): readonly string[] {
    return Object.keys(this.#outputs);
  }

  /** Answers the outputs that are wanted. @throws InvalidError when an input is neither given nor on the device */
  async run({ feeds, symbols, storedName, kept, wanted }: DeviceRun): Promise<Record<string, Float32Array>> {
    const given: HostTensor[] = this.#dimensions.map(({ name, dimension }) => ({
      name,
      data: BigInt64Array.of(BigInt(evaluate(dimension, symbols))),
      shape: [1],
      type: "int64",
    }));
    const stored: Record<string, string> = {};
    for (const name of this.inputNames) {
      const onDevice = storedName(name);
      const feed = feeds[name];
      if (onDevice !== null) stored[name] = onDevice;
      else if (feed) given.push({ name, ...feed, type: typeOf(feed) });
      else throw new InvalidError("missing_graph_input", `the graph was not given ${name}`);
    }
    return await this.#device.run({
      session: this.#session,
      feeds: given,
      stored,
      inPlace: {},
      kept,
      wanted: wanted.map((name) => ({
        name,
        shape: (this.#outputs[name]?.shape ?? []).map((size) => evaluate(size, symbols)),
      })),
    });
  }

  async close(): Promise<void> {
    await this.#device.closeSession(this.#session);
  }
}

function typeOf({ data }: Feeds[string]): HostTensor["type"] {
  if (data instanceof Float32Array) return "float32";
  return data instanceof Uint8Array ? "uint8" : "int64";
}
