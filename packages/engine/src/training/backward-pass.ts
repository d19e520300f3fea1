import type { Feeds, Symbols } from "../runtime/feeds.ts";
import type { ArrayLimits, LoraPlacement } from "../models/variables.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import { quantizedFeeds } from "../weights/frozen-weights.ts";
import { weightLocations } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { trainingGraph, type RowGradient } from "./training-graph.ts";

export interface BackwardPassOptions {
  readonly hasImages: boolean;
  /** True: gradients are added to what the arrays hold; false: they are written over it. */
  readonly adds: boolean;
  readonly isTrained: (name: string) => boolean;
  readonly lora: LoraPlacement | null;
  readonly limits?: ArrayLimits;
  readonly threads: number;
  /** Passes of different lanes run at the same time. */
  readonly lane: number;
}

/** Computes loss and gradients of micro-batches. */
export interface GradientPass {
  /**
   * Runs one micro-batch; answers its summed loss.
   *
   * @param feeds      the batch and the trained values, by input name
   * @param gradients  by name of the trained tensor, in shared memory; all of them are given
   * @param completed  told the weights whose gradients are final, where that is known before the end
   */
  run(
    feeds: Feeds,
    symbols: Symbols,
    gradients: ReadonlyMap<string, Float32Array>,
    completed?: (names: readonly string[]) => void,
  ): Promise<number>;
  close(): Promise<void>;
}

/** The training graph of a model in one piece, with frozen weights read in place. */
export class BackwardPass implements GradientPass {
  readonly #graph: CompiledGraph;
  readonly #quantized: Feeds;
  readonly #adds: boolean;
  readonly #dense: readonly string[];
  readonly #rows: readonly RowGradient[];

  private constructor(
    graph: CompiledGraph,
    quantized: Feeds,
    adds: boolean,
    dense: readonly string[],
    rows: readonly RowGradient[],
  ) {
    this.#graph = graph;
    this.#quantized = quantized;
    this.#adds = adds;
    this.#dense = dense;
    this.#rows = rows;
  }

  static async compile(folder: ModelFolder, options: BackwardPassOptions): Promise<BackwardPass> {
    const { forward, outputs, rowGradients } = trainingGraph(
      folder.model,
      options.hasImages,
      options.isTrained,
      options.lora,
      options.adds,
      options.limits,
    );
    const { trained, shapes } = forward.variables;
    // Quantized layers are fed: of weights that lie in the model, ONNX Runtime would compute the float32 values once and keep them.
    const quantized = await quantizedFeeds(folder, shapes.keys());
    const frozen = new Map([...shapes].filter(([name]) => !trained.has(name) && !quantized[name]));
    const graph = await CompiledGraph.compile(outputs, {
      threads: options.threads,
      lane: options.lane,
      weights: weightLocations(folder, frozen),
      weightsDirectory: folder.directory,
    });
    const dense = [...trained.keys()].filter((name) => outputs[`gradient:${name}`]);
    return new BackwardPass(graph, quantized, options.adds, dense, rowGradients);
  }

  async run(feeds: Feeds, symbols: Symbols, gradients: ReadonlyMap<string, Float32Array>): Promise<number> {
    const given = { ...this.#quantized, ...feeds };
    const into: Record<string, Float32Array> = {};
    for (const name of this.#dense) {
      const data = gradients.get(name) as Float32Array;
      into[`gradient:${name}`] = data;
      given[`sum:${name}`] = { data, shape: feeds[name]?.shape ?? [] };
    }
    if (!this.#adds) for (const [name, data] of gradients) if (!into[`gradient:${name}`]) data.fill(0);
    const results = await this.#graph.run(given, symbols, into);
    for (const { name, output, indices } of this.#rows)
      addRows(
        gradients.get(name) as Float32Array,
        feeds[indices]?.data as BigInt64Array,
        results[output] as Float32Array,
      );
    return results["loss"]?.[0] ?? Number.NaN;
  }

  async close(): Promise<void> {
    await this.#graph.close();
  }
}

/** Adds rows to a table in the order in which they are given, whatever rows they name. */
export function addRows(table: Float32Array, indices: BigInt64Array, rows: Float32Array): void {
  const width = rows.length / indices.length;
  indices.forEach((index, row) => {
    const start = Number(index) * width;
    for (let column = 0; column < width; column++)
      table[start + column] = (table[start + column] as number) + (rows[row * width + column] as number);
  });
}
