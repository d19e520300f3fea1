import type { ModelBatch } from "../batch/model-batch.ts";
import { lastRows, promptLengths, type AnswerPasses, type Continuation } from "../generation/answer-passes.ts";
import { nextPosition } from "../generation/step-cache.ts";
import type { Node } from "../graph/ops.ts";
import type { CacheSlot, ForwardGraph, Model } from "../models/model.ts";
import { masked } from "../models/parts/text-inputs.ts";
import type { LoraPlacement } from "../models/variables.ts";
import type { Feeds, FeedTensor } from "../runtime/feeds.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { Device, type DeviceSettings } from "./device.ts";
import { DeviceGraph } from "./device-graph.ts";
import { DeviceWeights } from "./device-weights.ts";
import { deviceNames } from "./update-model.ts";

export interface DevicePassesOptions {
  readonly device: Device;
  readonly weights: DeviceWeights;
  readonly folder: ModelFolder;
  readonly lora: LoraPlacement | null;
  readonly isTrained: (name: string) => boolean;
  /** Weights that lie on the device as trained values. */
  readonly live: ReadonlySet<string>;
  /** Called before each pass: puts the trained values there when they are not. */
  readonly prepare: () => Promise<void>;
}

/** What an own device needs to answer with a model. */
export interface OwnDeviceOptions extends Pick<DevicePassesOptions, "folder" | "lora"> {
  readonly device: DeviceSettings;
  /** Weights that are no part of the folder, such as adapters. */
  readonly live: ReadonlyMap<string, FeedTensor>;
}

/** Passes on a device of their own, which ends with them. @throws Error when ONNX Runtime cannot use the device */
export async function openDevicePasses({
  device: settings,
  live,
  ...options
}: OwnDeviceOptions): Promise<AnswerPasses> {
  const device = await Device.start(settings);
  try {
    for (const [name, { data, shape }] of live)
      await device.put({ name: deviceNames.values(name), data: data as Float32Array, shape, type: "float32" });
  } catch (error) {
    await device.close();
    throw error;
  }
  const passes = new DevicePasses({
    ...options,
    device,
    weights: new DeviceWeights(device, options.folder),
    isTrained: (name) => live.has(name),
    live: new Set(live.keys()),
    prepare: async () => undefined,
  });
  return {
    logits: async (batch) => await passes.logits(batch),
    begin: async (batch) => await passes.begin(batch),
    close: async () => await device.close(),
  };
}

type Kind = "all" | "prompt" | "step";

/** Passes on a device: weights and caches stay there, token ids go in and logits come out. */
export class DevicePasses implements AnswerPasses {
  readonly #options: DevicePassesOptions;
  readonly #graphs = new Map<string, Promise<DeviceGraph>>();
  #begun = 0;

  constructor(options: DevicePassesOptions) {
    this.#options = options;
  }

  async logits(batch: ModelBatch): Promise<Float32Array> {
    const graph = await this.#graph("all", batch.pictures.length > 0);
    return await this.#run(graph, this.#model.feeds(batch), this.#model.symbols(batch), "", []);
  }

  async begin(batch: ModelBatch): Promise<Continuation> {
    const hasImages = batch.pictures.length > 0;
    const graph = await this.#graph("prompt", hasImages);
    const rows = lastRows(batch);
    const prefix = `cache:${++this.#begun}:`;
    const slots = this.#model.cache.filter(({ name }) => graph.outputNames.includes(`new.${name}`));
    const feeds = { ...this.#model.feeds(batch), rows: { data: rows, shape: [rows.length] } };
    const symbols = { ...this.#model.symbols(batch), L: rows.length };
    const logits = await this.#run(graph, feeds, symbols, prefix, slots);
    let used = batch.sequenceLength;
    return {
      logits,
      next: async (tokens) => {
        const step = await this.#graph("step", this.#model.stepSeesImages && hasImages);
        const answered = await this.#step(step, batch, tokens, used, prefix, slots);
        used += 1;
        return answered;
      },
      end: async () => await this.#options.device.drop(slots.map(({ name }) => prefix + name)),
    };
  }

  async close(): Promise<void> {
    for (const graph of this.#graphs.values()) await (await graph).close();
    this.#graphs.clear();
  }

  get #model(): Model {
    return this.#options.folder.model;
  }

  /** @param used  tokens in the cache, padding included */
  async #step(
    graph: DeviceGraph,
    batch: ModelBatch,
    tokens: readonly (number | null)[],
    used: number,
    prefix: string,
    slots: readonly CacheSlot[],
  ): Promise<Float32Array> {
    const { batchSize, sequenceLength } = batch;
    const positions = Int32Array.from(
      { length: 3 * batchSize },
      (_, index) => nextPosition(batch, index % batchSize) + used - sequenceLength,
    );
    const step = this.#model.step(batch, positions, used + 1);
    const feeds: Feeds = {
      ...step.feeds,
      ids: { data: BigInt64Array.from(tokens, (token) => BigInt(token ?? 0)), shape: [batchSize] },
      mask: { data: stepMask(batch, used), shape: [batchSize, 1, 1, used + 1] },
    };
    const symbols = { ...step.symbols, B: batchSize, T: 1, S: used, W: used + 1 };
    return await this.#run(
      graph,
      feeds,
      symbols,
      prefix,
      slots.filter(({ kind }) => kind !== "kept"),
    );
  }

  /** @param replaced  slots whose arrays the pass makes anew */
  async #run(
    graph: DeviceGraph,
    feeds: Feeds,
    symbols: Readonly<Record<string, number>>,
    prefix: string,
    replaced: readonly CacheSlot[],
  ): Promise<Float32Array> {
    await this.#options.prepare();
    const results = await graph.run({
      feeds,
      symbols,
      storedName: (input) => {
        if (input.startsWith("past.")) return prefix + input.slice("past.".length);
        return this.#options.live.has(input) ? deviceNames.values(input) : this.#options.weights.storedName(input);
      },
      kept: Object.fromEntries(replaced.map(({ name }) => [`new.${name}`, prefix + name])),
      wanted: ["logits"],
    });
    return results["logits"] as Float32Array;
  }

  #graph(kind: Kind, hasImages: boolean): Promise<DeviceGraph> {
    const key = `${kind}:${hasImages}`;
    const known = this.#graphs.get(key) ?? this.#compile(kind, hasImages);
    this.#graphs.set(key, known);
    return known;
  }

  async #compile(kind: Kind, hasImages: boolean): Promise<DeviceGraph> {
    const { device, weights, folder, lora, isTrained, live } = this.#options;
    const { matrices } = device.settings;
    const forward = folder.model.forward({ hasImages, hasCache: kind === "step", lora, isTrained });
    const outputs: Record<string, Node> = { logits: forward.logits(kind === "prompt" ? "given" : "all") };
    if (kind !== "all")
      for (const [slot, node] of forward.cache) outputs[`new.${slot}`] = this.#grown(forward, slot, node, kind);
    const frozen = new Map([...forward.variables.shapes].filter(([name]) => !live.has(name)));
    await weights.put(frozen);
    return await DeviceGraph.compile(device, outputs, {
      ...(matrices === "float32" ? {} : { matrices }),
      stored: weights.typesOf(frozen),
    });
  }

  /** What is kept of a slot: of one that grows, what was there with what is new. */
  #grown({ graph }: ForwardGraph, name: string, node: Node, kind: Kind): Node {
    const slot = this.#model.cache.find((each) => each.name === name);
    if (kind === "prompt" || slot?.kind !== "grows") return node;
    return graph.concat([graph.input(`past.${name}`, node.shape.with(2, "S")), node], 2, "W");
  }
}

/** `[B, 1, 1, used + 1]`: tokens of the prompts, those that followed, and the new one. */
function stepMask(batch: ModelBatch, used: number): Float32Array {
  const lengths = promptLengths(batch);
  const mask = new Float32Array(batch.batchSize * (used + 1));
  for (const [row, length] of lengths.entries())
    mask.fill(masked, row * (used + 1) + length, row * (used + 1) + batch.sequenceLength);
  return mask;
}
