import { createHash } from "node:crypto";
import { GraphBuilder } from "../graph/build.ts";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import type { Precision } from "../graph/onnx/encoder.ts";
import type { Node } from "../graph/ops.ts";
import type { Shape } from "../graph/shape.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import type { Segment, SegmentGraph } from "../segments/cut-graph.ts";
import type { Device } from "./device.ts";
import { DeviceGraph } from "./device-graph.ts";
import type { DeviceWeights } from "./device-weights.ts";
import { deviceNames } from "./update-model.ts";

export interface DeviceSegmentsOptions {
  readonly device: Device;
  readonly weights: DeviceWeights;
  readonly matrices: Precision["matrices"] | null;
  /** Trained tensors and their shapes. */
  readonly trained: ReadonlyMap<string, Shape>;
  /** Frozen weights and their shapes: on the device already. */
  readonly frozen: ReadonlyMap<string, Shape>;
}

interface CompiledPart {
  readonly graph: SegmentGraph;
  readonly session: DeviceGraph;
}

/**
 * Loss and gradients of micro-batches on a device, one segment after the other, each segment's activations computed again for its
 * backward pass: `SegmentedPass` with values, gradients and weights on the device. Gradients are added to those that are there.
 */
export class DeviceSegments {
  readonly #options: DeviceSegmentsOptions;
  readonly #segments: readonly Segment[];
  readonly #forward: readonly (CompiledPart | null)[];
  readonly #backward: readonly (CompiledPart | null)[];
  readonly #sum: DeviceGraph;
  /** Adds looked-up rows to a table, by table. */
  readonly #rowSums: ReadonlyMap<string, DeviceGraph>;

  private constructor(
    options: DeviceSegmentsOptions,
    segments: readonly Segment[],
    forward: readonly (CompiledPart | null)[],
    backward: readonly (CompiledPart | null)[],
    sum: DeviceGraph,
    rowSums: ReadonlyMap<string, DeviceGraph>,
  ) {
    this.#options = options;
    this.#segments = segments;
    this.#forward = forward;
    this.#backward = backward;
    this.#sum = sum;
    this.#rowSums = rowSums;
  }

  static async compile(segments: readonly Segment[], options: DeviceSegmentsOptions): Promise<DeviceSegments> {
    const { device } = options;
    const types = options.weights.typesOf(options.frozen);
    // Layers that are built alike share a session: their weights are inputs.
    const sessions = new Map<string, Promise<DeviceGraph>>();
    const sessionOf = (outputs: SegmentGraph["outputs"], precision: Precision): Promise<DeviceGraph> => {
      const key = createHash("sha256")
        .update(encodeOnnx(outputs, new Map(), precision).model)
        .digest("hex");
      const known = sessions.get(key) ?? DeviceGraph.compile(device, outputs, precision);
      sessions.set(key, known);
      return known;
    };
    const compile = async (graph: SegmentGraph | null): Promise<CompiledPart | null> => {
      if (!graph) return null;
      const stored = [...graph.inputs].flatMap(([name, meaning]): [string, "float16" | "bfloat16"][] => {
        const type = types.get(meaning);
        return type ? [[name, type]] : [];
      });
      const precision = { ...(options.matrices ? { matrices: options.matrices } : {}), stored: new Map(stored) };
      return { graph, session: await sessionOf(graph.outputs, precision) };
    };
    const [forward, backward]: [(CompiledPart | null)[], (CompiledPart | null)[]] = [[], []];
    for (const segment of segments) {
      forward.push(await compile(segment.forward));
      backward.push(await compile(segment.backward(true)));
    }
    const tables = new Set(backward.flatMap((part) => part?.graph.rowGradients.map(({ name }) => name) ?? []));
    const rowSums = new Map<string, DeviceGraph>();
    for (const name of tables)
      rowSums.set(name, await DeviceGraph.compile(device, rowSum(options.trained.get(name) as Shape), {}));
    return new DeviceSegments(
      options,
      segments,
      forward,
      backward,
      await DeviceGraph.compile(device, sum(), {}),
      rowSums,
    );
  }

  /** Runs one micro-batch; answers its summed loss. */
  async run(feeds: Feeds, symbols: Symbols): Promise<number> {
    for (const [index, segment] of this.#segments.entries()) {
      const part = this.#forward[index];
      if (part) await this.#runPart(part, feeds, symbols, new Map(segment.gives.map(({ name }) => [name, name])));
    }
    let loss = Number.NaN;
    const sent = new Set<string>();
    for (let index = this.#segments.length - 1; index >= 0; index--) {
      const segment = this.#segments[index] as Segment;
      const part = this.#backward[index];
      if (part) loss = (await this.#backwardOf(part, feeds, symbols, sent)) ?? loss;
      const done = segment.gives.flatMap(({ name }) => [name, `d:${name}`]);
      for (const name of done) sent.delete(name);
      await this.#options.device.drop(done);
    }
    return loss;
  }

  async close(): Promise<void> {
    const parts = [...this.#forward, ...this.#backward].flatMap((part) => (part ? [part.session] : []));
    for (const session of new Set([...parts, this.#sum, ...this.#rowSums.values()])) await session.close();
  }

  /** @param sent  gradients of values that later segments have sent back */
  async #backwardOf(part: CompiledPart, feeds: Feeds, symbols: Symbols, sent: Set<string>): Promise<number | null> {
    const kept = new Map<string, string>();
    const addends: string[] = [];
    for (const meaning of part.graph.results.values()) {
      if (meaning.startsWith("gradient:")) kept.set(meaning, deviceNames.gradient(meaning.slice("gradient:".length)));
      else if (!meaning.startsWith("d:")) kept.set(meaning, meaning);
      else if (sent.has(meaning)) {
        kept.set(meaning, `${meaning}:addend`);
        addends.push(meaning);
      } else {
        kept.set(meaning, meaning);
        sent.add(meaning);
      }
    }
    kept.delete("loss");
    const loss = await this.#runPart(part, feeds, symbols, kept);
    for (const meaning of addends) await this.#addUp(meaning);
    for (const { name, output, indices } of part.graph.rowGradients) await this.#addRows(name, output, feeds[indices]);
    return loss;
  }

  async #addUp(meaning: string): Promise<void> {
    const addend = `${meaning}:addend`;
    await this.#sum.run({
      feeds: {},
      symbols: {},
      storedName: (input) => (input === "a" ? meaning : addend),
      kept: { sum: meaning },
      wanted: [],
    });
    await this.#options.device.drop([addend]);
  }

  async #addRows(table: string, rows: string, indices: Feeds[string] | undefined): Promise<void> {
    const session = this.#rowSums.get(table);
    if (!session || !indices) throw new Error(`no indices for the rows of ${table}`);
    const gradient = deviceNames.gradient(table);
    await session.run({
      feeds: { indices },
      symbols: {},
      storedName: (input) => (input === "table" ? gradient : input === "rows" ? rows : null),
      kept: { sum: gradient },
      wanted: [],
    });
    await this.#options.device.drop([rows]);
  }

  /** @param kept  name on the device by what an output stands for */
  async #runPart(
    { graph, session }: CompiledPart,
    feeds: Feeds,
    symbols: Symbols,
    kept: ReadonlyMap<string, string>,
  ): Promise<number | null> {
    const given: Feeds = {};
    for (const [name, meaning] of graph.inputs) {
      const feed = feeds[meaning];
      if (feed) given[name] = feed;
    }
    const results = [...graph.results];
    const loss = results.find(([, meaning]) => meaning === "loss")?.[0];
    const answered = await session.run({
      feeds: given,
      symbols,
      storedName: (input) => this.#storedName(graph.inputs.get(input.replace(/:stored$/, "")) ?? input),
      kept: Object.fromEntries(
        results.flatMap(([name, meaning]): [string, string][] => {
          const target = kept.get(meaning);
          return target === undefined ? [] : [[name, target]];
        }),
      ),
      wanted: loss === undefined ? [] : [loss],
    });
    return loss === undefined ? null : (answered[loss]?.[0] ?? null);
  }

  #storedName(meaning: string): string | null {
    if (/^(d:)?value:/.test(meaning)) return meaning;
    if (meaning.startsWith("sum:")) return deviceNames.gradient(meaning.slice("sum:".length));
    return this.#options.trained.has(meaning) ? deviceNames.values(meaning) : this.#options.weights.storedName(meaning);
  }
}

function sum(): Record<string, Node> {
  const graph = new GraphBuilder();
  return { sum: graph.add(graph.input("a", ["n"]), graph.input("b", ["n"])) };
}

function rowSum(table: Shape): Record<string, Node> {
  const graph = new GraphBuilder();
  const rows = graph.input("rows", ["n", ...table.slice(1)]);
  return { sum: graph.addRows(graph.input("table", table), graph.input("indices", ["n"], "int64"), rows) };
}
