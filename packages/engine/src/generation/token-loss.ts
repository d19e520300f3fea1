import { arrayLimits } from "../batch/array-limits.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import type { Node } from "../graph/ops.ts";
import { evaluate } from "../graph/shape.ts";
import type { ForwardGraph } from "../models/model.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import { lossFeeds, lossGraph } from "../training/training-graph.ts";
import { quantizedFeeds } from "../weights/frozen-weights.ts";
import { weightLocations } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";

/** Sums over rows of batches. */
export interface LossSums {
  /** Σ −log p of the label tokens, in nats. */
  readonly loss: number;
  /** Label tokens. */
  readonly tokens: number;
}

type LossGraph = ReturnType<typeof lossGraph>;

interface Compiled {
  readonly graph: CompiledGraph;
  readonly forward: ForwardGraph;
  readonly quantized: Feeds;
}

interface BatchResults {
  readonly batch: ModelBatch;
  readonly results: Record<string, Float32Array>;
  readonly symbols: Symbols;
  readonly forward: ForwardGraph;
}

/** What a model's weights as they lie in a folder say to answers that are given: no gradients, no adapter. */
export class TokenLoss {
  readonly #folder: ModelFolder;
  readonly #threads: number;

  constructor(folder: ModelFolder, threads: number) {
    this.#folder = folder;
    this.#threads = threads;
  }

  /** @param batches  with labels; exp(loss / tokens) is the perplexity */
  async sum(batches: AsyncIterable<ModelBatch>): Promise<LossSums> {
    let [loss, tokens] = [0, 0];
    for await (const { batch, results } of this.#run(batches, (graph) => ({ loss: graph.loss }))) {
      loss += results["loss"]?.[0] ?? Number.NaN;
      tokens += lossFeeds(batch).tokens;
    }
    return { loss, tokens };
  }

  /**
   * What every linear layer is given: the mean of x² of each of its inputs, by module path.
   *
   * @param batches  of one row each, for padding would count
   */
  async inputPower(batches: AsyncIterable<ModelBatch>): Promise<Map<string, { meanSquares: Float32Array }>> {
    const sums = new Map<string, { squares: Float64Array; rows: number }>();
    for await (const { forward, results, symbols } of this.#run(batches, ({ forward: each }) => squaresOf(each)))
      for (const [path, { shape }] of forward.variables.linearInputs) {
        const squares = results[`squares:${path}`] as Float32Array;
        const sum = sums.get(path) ?? { squares: new Float64Array(squares.length), rows: 0 };
        squares.forEach((value, index) => (sum.squares[index] = (sum.squares[index] as number) + value));
        sums.set(path, { squares: sum.squares, rows: sum.rows + evaluate(shape[0] ?? 1, symbols) });
      }
    return new Map(
      [...sums].map(([path, { squares, rows }]) => [
        path,
        { meanSquares: Float32Array.from(squares, (value) => value / rows) },
      ]),
    );
  }

  async *#run(
    batches: AsyncIterable<ModelBatch>,
    outputsOf: (graph: LossGraph) => Record<string, Node>,
  ): AsyncGenerator<BatchResults> {
    const { model } = this.#folder;
    const compiled = new Map<string, Compiled>();
    try {
      for await (const batch of batches) {
        const { feeds, tokens } = lossFeeds(batch);
        const hasImages = batch.pictures.length > 0;
        const limits = arrayLimits(batch, { rows: tokens, vocabulary: model.vocabularySize, headGradient: 0 });
        const key = JSON.stringify({ hasImages, limits });
        let known = compiled.get(key);
        if (!known) {
          const graph = lossGraph(model, hasImages, () => false, null, limits);
          compiled.set(key, (known = await this.#compile(graph.forward, outputsOf(graph))));
        }
        const symbols = { ...model.symbols(batch), L: tokens };
        const results = await known.graph.run({ ...model.feeds(batch), ...feeds, ...known.quantized }, symbols);
        yield { batch, results, symbols, forward: known.forward };
      }
    } finally {
      for (const { graph } of compiled.values()) await graph.close();
    }
  }

  async #compile(forward: ForwardGraph, outputs: Record<string, Node>): Promise<Compiled> {
    const { shapes } = forward.variables;
    const weights = weightLocations(this.#folder, shapes);
    const quantized = await quantizedFeeds(this.#folder, shapes.keys(), (name) => !weights.has(name));
    const options = { threads: this.#threads, weights, weightsDirectory: this.#folder.directory };
    return { graph: await CompiledGraph.compile(outputs, options), forward, quantized };
  }
}

function squaresOf({ graph, variables: { linearInputs } }: ForwardGraph): Record<string, Node> {
  return Object.fromEntries(
    [...linearInputs].map(([path, x]) => [`squares:${path}`, graph.reduceSum(graph.mul(x, x), [0], false)]),
  );
}
