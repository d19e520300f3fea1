import { InvalidError, messageOf } from "@drydock/kit";
import koffi from "koffi";
import { plainModel } from "./plain-model.ts";
import type { DeviceRequest, DeviceSettings, HostTensor } from "./device-messages.ts";
import { elementTypes, OrtLibrary, type ElementType, type Handle } from "./ort-library.ts";

/** An array on the device. */
interface Stored {
  readonly value: Handle;
  readonly bytes: number;
}

type RunRequest = Extract<DeviceRequest, { kind: "run" }>;

/** What goes wrong is thrown with its words; ONNX Runtime need not print it as well. */
const fatalOnly = 4;
const allOptimizations = 99;
const arenaAllocator = 1;
const deviceAllocator = 0;
const defaultMemory = 0;
const pointerBytes = 8n;

/**
 * Sessions and arrays of one device. Arrays have names and stay on the device between runs: weights, gradients, moments, caches.
 *
 * Copies between host and device are runs of a graph that does nothing: ONNX Runtime copies what is bound on the wrong side by
 * itself, so no library of the device's maker is called from here.
 */
export class DeviceSessions {
  readonly #ort = new OrtLibrary();
  readonly #settings: DeviceSettings;
  readonly #environment: Handle;
  readonly #sessions = new Map<number, Handle>();
  readonly #copies = new Map<ElementType, Handle>();
  readonly #stored = new Map<string, Stored>();
  readonly #hostMemory: Handle;
  readonly #deviceMemory: Handle;
  readonly #hostAllocator: Handle;
  /** Arrays that are bound for one run: garbage collection must not take them before it is over. */
  #held: unknown[] = [];

  /** @throws InvalidError (`no_device`) when ONNX Runtime cannot use the device */
  constructor(settings: DeviceSettings) {
    this.#settings = settings;
    this.#environment = this.#ort.given("CreateEnv", fatalOnly, "drydock");
    this.#hostMemory = this.#ort.given("CreateMemoryInfo", "Cpu", deviceAllocator, 0, defaultMemory);
    this.#hostAllocator = this.#ort.given("GetAllocatorWithDefaultOptions");
    const { kind, index } = settings;
    this.#deviceMemory =
      kind === "cpu"
        ? this.#hostMemory
        : this.#ort.given("CreateMemoryInfo", "Cuda", arenaAllocator, index, defaultMemory);
    try {
      this.#copySession("float32");
    } catch (error) {
      throw new InvalidError(
        "no_device",
        `ONNX Runtime cannot use ${kind} device ${index}: ${messageOf(error)}; see docs/guides/gpu.md for what has to be installed`,
        { cause: error },
      );
    }
  }

  open(session: number, model: Uint8Array): void {
    this.#sessions.set(session, this.#create(model));
  }

  close(session: number): void {
    this.#ort.call("ReleaseSession", this.#session(session));
    this.#sessions.delete(session);
  }

  put(tensor: HostTensor): void {
    const from = this.#hostValue(tensor);
    const [value] = this.#bound(this.#copySession(tensor.type), [["x", from]], [["y", this.#deviceMemory, "memory"]]);
    this.#ort.call("ReleaseValue", from);
    this.#keep(tensor.name, value as Handle, tensor.data.byteLength);
  }

  get(name: string, into: HostTensor): void {
    const { value, bytes } = this.#find(name);
    if (bytes !== into.data.byteLength)
      throw new Error(`${name} has ${bytes} bytes on the device, not ${into.data.byteLength}`);
    const to = this.#hostValue(into);
    this.#bound(this.#copySession(into.type), [["x", value]], [["y", to, "value"]]);
    this.#ort.call("ReleaseValue", to);
  }

  drop(name: string): void {
    const stored = this.#stored.get(name);
    if (stored) this.#ort.call("ReleaseValue", stored.value);
    this.#stored.delete(name);
  }

  run({ session, feeds, stored, inPlace, kept, wanted }: RunRequest): Record<string, Float32Array> {
    const given = feeds.map((feed): [string, Handle] => [feed.name, this.#hostValue(feed)]);
    const outputs: Record<string, Float32Array> = {};
    const results = wanted.map(({ name, shape }): [string, Handle] => {
      const data = new Float32Array(shape.reduce((size, side) => size * side, 1));
      outputs[name] = data;
      return [name, this.#hostValue({ name, data, shape, type: "float32" })];
    });
    try {
      const made = this.#bound(
        this.#session(session),
        [...given, ...Object.entries(stored).map(([input, name]): [string, Handle] => [input, this.#find(name).value])],
        [
          ...Object.keys(kept).map((output): OutputBinding => [output, this.#deviceMemory, "memory"]),
          ...Object.entries(inPlace).map(([output, name]): OutputBinding => [output, this.#find(name).value, "value"]),
          ...results.map(([name, value]): OutputBinding => [name, value, "value"]),
        ],
      );
      Object.values(kept).forEach((name, index) => {
        const value = made[index] as Handle;
        this.#keep(name, value, this.#bytesOf(value));
      });
    } finally {
      for (const [, value] of [...given, ...results]) this.#ort.call("ReleaseValue", value);
      this.#held = [];
    }
    return outputs;
  }

  count(): { tensors: number; bytes: number } {
    return { tensors: this.#stored.size, bytes: [...this.#stored.values()].reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Runs with bindings; answers the values of outputs that were bound to a memory, in order. */
  #bound(session: Handle, inputs: readonly (readonly [string, Handle])[], outputs: readonly OutputBinding[]): Handle[] {
    const binding = this.#ort.given("CreateIoBinding", session);
    try {
      for (const [name, value] of inputs) this.#ort.call("BindInput", binding, name, value);
      for (const [name, target, kind] of outputs)
        this.#ort.call(kind === "memory" ? "BindOutputToDevice" : "BindOutput", binding, name, target);
      this.#ort.call("SynchronizeBoundInputs", binding);
      this.#ort.call("RunWithBinding", session, null, binding);
      this.#ort.call("SynchronizeBoundOutputs", binding);
      return this.#outputValues(binding, outputs);
    } finally {
      this.#ort.call("ReleaseIoBinding", binding);
    }
  }

  #outputValues(binding: Handle, outputs: readonly OutputBinding[]): Handle[] {
    if (!outputs.some(([, , kind]) => kind === "memory")) return [];
    const [list, count]: [unknown[], unknown[]] = [[null], [0]];
    this.#ort.call("GetBoundOutputValues", binding, this.#hostAllocator, list, count);
    const start = list[0] as Handle;
    const values = outputs.map((_, index) => koffi.decode(start + BigInt(index) * pointerBytes, "void *") as Handle);
    this.#ort.call("AllocatorFree", this.#hostAllocator, start);
    // The list holds a reference of its own to each value; those that were given already are let go.
    return values.filter((value, index) => {
      const isMade = outputs[index]?.[2] === "memory";
      if (!isMade) this.#ort.call("ReleaseValue", value);
      return isMade;
    });
  }

  #keep(name: string, value: Handle, bytes: number): void {
    this.drop(name);
    this.#stored.set(name, { value, bytes });
  }

  #find(name: string): Stored {
    const stored = this.#stored.get(name);
    if (!stored) throw new Error(`nothing on the device is called ${name}`);
    return stored;
  }

  #session(session: number): Handle {
    const handle = this.#sessions.get(session);
    if (handle === undefined) throw new Error(`session ${session} is closed`);
    return handle;
  }

  #copySession(type: ElementType): Handle {
    let session = this.#copies.get(type);
    if (session === undefined) this.#copies.set(type, (session = this.#create(copyOf(elementTypes[type]))));
    return session;
  }

  /** A view of an array of the host. */
  #hostValue({ data, shape, type }: HostTensor): Handle {
    this.#held.push(data);
    return this.#ort.given(
      "CreateTensorWithDataAsOrtValue",
      this.#hostMemory,
      data,
      data.byteLength,
      shape,
      shape.length,
      elementTypes[type],
    );
  }

  #bytesOf(value: Handle): number {
    const info = this.#ort.given("GetTensorTypeAndShape", value);
    try {
      const [type, count] = [new Int32Array(1), Number(this.#ort.given("GetDimensionsCount", info))];
      const sizes = new BigInt64Array(Math.max(count, 1));
      this.#ort.call("GetTensorElementType", info, type);
      this.#ort.call("GetDimensions", info, sizes, count);
      const elements = [...sizes.subarray(0, count)].reduce((product, size) => product * Number(size), 1);
      return elements * (bytesOfElement.get(type[0] as number) ?? 4);
    } finally {
      this.#ort.call("ReleaseTensorTypeAndShapeInfo", info);
    }
  }

  #create(model: Uint8Array): Handle {
    const options = this.#ort.given("CreateSessionOptions");
    try {
      this.#ort.call("SetSessionLogSeverityLevel", options, fatalOnly);
      this.#ort.call("SetSessionGraphOptimizationLevel", options, allOptimizations);
      this.#ort.call("SetIntraOpNumThreads", options, this.#settings.threads);
      this.#ort.call("SetInterOpNumThreads", options, 1);
      this.#ort.call("DisableMemPattern", options);
      for (const [key, value] of [
        ["session.intra_op.allow_spinning", "0"],
        ["session.set_denormal_as_zero", "1"],
      ])
        this.#ort.call("AddSessionConfigEntry", options, key, value);
      if (this.#settings.kind === "cuda") this.#addCuda(options);
      return this.#ort.given("CreateSessionFromArray", this.#environment, model, model.byteLength, options);
    } finally {
      this.#ort.call("ReleaseSessionOptions", options);
    }
  }

  #addCuda(options: Handle): void {
    const cuda = this.#ort.given("CreateCudaOptions");
    const { index, memoryLimitBytes } = this.#settings;
    const entries = {
      device_id: String(index),
      // Growing by powers of two would take up to twice what is needed.
      arena_extend_strategy: "kSameAsRequested",
      ...(memoryLimitBytes === undefined ? {} : { gpu_mem_limit: String(memoryLimitBytes) }),
    };
    try {
      const [keys, values] = [Object.keys(entries), Object.values(entries)];
      this.#ort.call("UpdateCudaOptions", cuda, keys, values, keys.length);
      this.#ort.call("AppendCuda", options, cuda);
    } finally {
      this.#ort.call("ReleaseCudaOptions", cuda);
    }
  }
}

/** An output, and the value or the memory that it is bound to. */
type OutputBinding = readonly [name: string, target: Handle, kind: "value" | "memory"];

const bytesOfElement = new Map<number, number>([
  [elementTypes.float32, 4],
  [elementTypes.uint8, 1],
  [elementTypes.int64, 8],
  [elementTypes.float16, 2],
  [elementTypes.bfloat16, 2],
]);

/** A model `y = x`. */
function copyOf(elementType: number): Uint8Array {
  return plainModel([{ type: "Identity", inputs: ["x"], output: "y" }], ["x"], ["y"], elementType);
}
