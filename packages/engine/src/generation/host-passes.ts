import { arrayLimits } from "../batch/array-limits.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import type { Node } from "../graph/ops.ts";
import type { ForwardGraph } from "../models/model.ts";
import type { ArrayLimits, LoraPlacement } from "../models/variables.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import type { Feeds, FeedTensor } from "../runtime/feeds.ts";
import { refuseNotFinite } from "../weights/check-weights.ts";
import { quantizedFeeds } from "../weights/frozen-weights.ts";
import { weightLocations } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { lastRows, type AnswerPasses, type Continuation } from "./answer-passes.ts";
import { StepCache } from "./step-cache.ts";

export interface HostPassesSettings {
  readonly threads: number;
  readonly folder: ModelFolder;
  readonly lora: LoraPlacement | null;
  /** Weights that are fed at each run because they change: adapters, or all trained ones. */
  readonly live: ReadonlyMap<string, FeedTensor>;
}

/** Passes on the CPU. */
export class HostPasses implements AnswerPasses {
  readonly #settings: HostPassesSettings;
  readonly #prefill = new Map<string, CompiledGraph>();
  readonly #decode = new Map<boolean, CompiledGraph>();
  readonly #full = new Map<string, CompiledGraph>();
  /** Parts of quantized layers that no file holds as they are. */
  readonly #computed: Feeds = {};

  constructor(settings: HostPassesSettings) {
    this.#settings = settings;
  }

  async logits(batch: ModelBatch): Promise<Float32Array> {
    const { key, forward } = this.#promptForward(batch);
    let graph = this.#full.get(key);
    if (!graph) {
      const whole = forward();
      graph = await this.#compile(whole, { logits: whole.logits("all") });
      this.#full.set(key, graph);
    }
    const { logits } = await graph.run(this.#promptFeeds(batch), this.#settings.folder.model.symbols(batch));
    return logits as Float32Array;
  }

  async begin(batch: ModelBatch, maxNewTokens: number): Promise<Continuation> {
    const { model } = this.#settings.folder;
    const graph = await this.#prefillGraph(batch);
    const rows = lastRows(batch);
    const first = await graph.run(
      { ...this.#promptFeeds(batch), rows: { data: rows, shape: [rows.length] } },
      { ...model.symbols(batch), L: rows.length },
    );
    if (!first["logits"]?.every(Number.isFinite)) await refuseNotFinite(this.#settings.folder);
    const cache = new StepCache(model, batch, first, maxNewTokens);
    return {
      logits: first["logits"] as Float32Array,
      next: async (tokens) => {
        const decode = await this.#decodeGraph(model.stepSeesImages && batch.pictures.length > 0);
        return await this.#next(decode, cache, tokens);
      },
      end: async () => undefined,
    };
  }

  async close(): Promise<void> {
    for (const graphs of [this.#prefill, this.#full, this.#decode]) {
      for (const graph of graphs.values()) await graph.close();
      graphs.clear();
    }
  }

  async #next(graph: CompiledGraph, cache: StepCache, tokens: readonly (number | null)[]): Promise<Float32Array> {
    const { feeds, symbols } = cache.inputs(tokens);
    const results = await graph.run({ ...feeds, ...this.#liveFeeds() }, symbols, cache.targets());
    cache.append(results);
    return results["logits"] as Float32Array;
  }

  async #decodeGraph(hasImages: boolean): Promise<CompiledGraph> {
    let graph = this.#decode.get(hasImages);
    if (!graph) {
      const forward = this.#forward(hasImages, true);
      graph = await this.#compile(forward, { logits: forward.logits("all"), ...cacheOutputs(forward) });
      this.#decode.set(hasImages, graph);
    }
    return graph;
  }

  async #prefillGraph(batch: ModelBatch): Promise<CompiledGraph> {
    const { key, forward } = this.#promptForward(batch);
    let graph = this.#prefill.get(key);
    if (!graph) {
      const prompt = forward();
      graph = await this.#compile(prompt, { logits: prompt.logits("given"), ...cacheOutputs(prompt) });
      this.#prefill.set(key, graph);
    }
    return graph;
  }

  /** The graph of whole rows; batches with the same key share one. */
  #promptForward(batch: ModelBatch): { readonly key: string; readonly forward: () => ForwardGraph } {
    const hasImages = batch.pictures.length > 0;
    const limits = arrayLimits(batch, { rows: batch.batchSize, vocabulary: 1, headGradient: 0 });
    return { key: JSON.stringify({ hasImages, limits }), forward: () => this.#forward(hasImages, false, limits) };
  }

  #forward(hasImages: boolean, hasCache: boolean, limits: ArrayLimits = {}): ForwardGraph {
    const { folder, lora, live } = this.#settings;
    return folder.model.forward({ hasImages, hasCache, lora, limits, isTrained: (name) => live.has(name) });
  }

  async #compile(forward: ForwardGraph, outputs: Record<string, Node>): Promise<CompiledGraph> {
    const { folder, threads, live } = this.#settings;
    const frozen = new Map([...forward.variables.shapes].filter(([name]) => !live.has(name)));
    const weights = weightLocations(folder, frozen);
    // What is computed from the files has no place in them.
    Object.assign(this.#computed, await quantizedFeeds(folder, frozen.keys(), (name) => !weights.has(name)));
    return await CompiledGraph.compile(outputs, { threads, weights, weightsDirectory: folder.directory });
  }

  #promptFeeds(batch: ModelBatch): Feeds {
    return { ...this.#settings.folder.model.feeds(batch), ...this.#liveFeeds() };
  }

  #liveFeeds(): Feeds {
    return { ...this.#computed, ...Object.fromEntries(this.#settings.live) };
  }
}

function cacheOutputs({ cache }: ForwardGraph): Record<string, Node> {
  return Object.fromEntries([...cache].map(([slot, node]) => [`new.${slot}`, node]));
}
