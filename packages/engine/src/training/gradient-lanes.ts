import { closeAll } from "../runtime/close-all.ts";
import { processorMemory } from "@drydock/spec";
import type { ModelBatch } from "../batch/model-batch.ts";
import { splitBatch } from "../batch/split-batch.ts";
import { arrayLimits, headGradient } from "../batch/array-limits.ts";
import type { ArrayLimits } from "../models/variables.ts";
import type { Feeds } from "../runtime/feeds.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { SegmentedPass } from "../segments/segmented-pass.ts";
import { frozenShapes, trainingSegments } from "../segments/training-segments.ts";
import { FrozenWeights } from "../weights/frozen-weights.ts";
import { BackwardPass, type BackwardPassOptions, type GradientPass } from "./backward-pass.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { markLast, type GradientSource, type MicroBatches, type StepSums } from "./gradient-source.ts";
import { lossFeeds } from "./training-graph.ts";

/**
 * Of a model of up to so many weights, a second set of gradients and of frozen weights costs little, and halves of a batch
 * side by side are faster than one after the other with every operator shared out: threads then meet once a step instead of
 * at each operator (docs/log/2026-11-23-training-speed.md).
 */
const smallModel = processorMemory.laneParameters;
const lanesOfSmallModel = 2;

export type Gradients = ReadonlyMap<string, Float32Array>;

/** What the lanes ask of the trainer. */
export interface LaneOptions extends Pick<BackwardPassOptions, "isTrained" | "lora" | "threads"> {
  readonly folder: ModelFolder;
  /** The sums, by name of the trained tensor, in shared memory. */
  readonly gradients: Gradients;
  /** Whether activations are computed again for the backward pass, layer by layer, rather than kept. */
  readonly recomputes: boolean;
  /** Feeds that are no part of the batch: the trained values, and dropout masks. */
  readonly furtherFeeds: (batch: ModelBatch, firstRow: number) => Feeds;
}

interface LanePart {
  readonly batch: ModelBatch;
  readonly firstRow: number;
  readonly loss: Feeds;
  readonly tokens: number;
}

/**
 * Gradients of micro-batches. Of a small model the rows are cut into two lanes, each with its own sums, which are added in
 * the end; how they are cut does not depend on the number of threads, so the result does not either.
 */
export class GradientLanes implements GradientSource {
  readonly #options: LaneOptions;
  /** Sums by lane; the first are the trainer's. */
  readonly #sums: Gradients[];
  readonly #lanes: number;
  readonly #passes = new Map<string, Promise<GradientPass>>();
  readonly #frozen: FrozenWeights;

  constructor(options: LaneOptions) {
    this.#options = options;
    this.#sums = [options.gradients];
    this.#frozen = new FrozenWeights(options.folder);
    this.#lanes = weightsOf(options.folder) <= smallModel ? lanesOfSmallModel : 1;
  }

  async run(
    microBatches: MicroBatches,
    firstRow: number,
    completed: (names: readonly string[]) => void,
  ): Promise<StepSums> {
    let [lossSum, labelTokens, row] = [0, 0, firstRow];
    for await (const { item: batch, isOnly, isLast } of markLast(microBatches)) {
      // Of several micro-batches each adds to the sums; a single one is written over what the last step left.
      if (!isOnly && row === firstRow) for (const gradient of this.#options.gradients.values()) gradient.fill(0);
      const sums = await this.#runBatch(batch, row, !isOnly, isLast ? completed : () => undefined);
      lossSum += sums.lossSum;
      labelTokens += sums.tokens;
      row += batch.batchSize;
    }
    return { lossSum, labelTokens, hasGradients: labelTokens > 0 };
  }

  async close(): Promise<void> {
    const passes = [...this.#passes.values()];
    this.#passes.clear();
    await closeAll(passes.map((pass) => async () => await (await pass).close()));
  }

  /** @param adds  whether gradients are added to the sums, or written over them */
  async #runBatch(
    batch: ModelBatch,
    firstRow: number,
    adds: boolean,
    completed: (names: readonly string[]) => void,
  ): Promise<{ lossSum: number; tokens: number }> {
    const parts = splitBatch(batch, this.#lanes)
      .map((part): LanePart => {
        const { feeds, tokens } = lossFeeds(part.batch);
        return { batch: part.batch, firstRow: firstRow + part.firstRow, loss: feeds, tokens };
      })
      .filter(({ tokens }) => tokens > 0);
    // The sums of several lanes are final when they have been added.
    const told = parts.length === 1 ? completed : (): void => undefined;
    const losses = await Promise.all(parts.map((part, lane) => this.#runPart(part, lane, adds && lane === 0, told)));
    for (let lane = 1; lane < parts.length; lane++) addTo(this.#options.gradients, this.#sumsOf(lane));
    return {
      lossSum: losses.reduce((sum, loss) => sum + loss, 0),
      tokens: parts.reduce((sum, { tokens }) => sum + tokens, 0),
    };
  }

  async #runPart(
    { batch, firstRow, loss, tokens }: LanePart,
    lane: number,
    adds: boolean,
    completed: (names: readonly string[]) => void,
  ): Promise<number> {
    const { folder, furtherFeeds } = this.#options;
    const { model } = folder;
    const hasImages = batch.pictures.length > 0;
    const limits = arrayLimits(batch, {
      rows: tokens,
      vocabulary: model.vocabularySize,
      headGradient: headGradient(this.#options.gradients),
    });
    const pass = await this.#pass(hasImages, adds, lane, limits);
    const feeds: Feeds = {
      ...model.feeds(batch),
      ...loss,
      ...furtherFeeds(batch, firstRow),
    };
    const symbols = { ...model.symbols(batch), L: tokens };
    return await pass.run(feeds, symbols, this.#sumsOf(lane), completed);
  }

  #sumsOf(lane: number): Gradients {
    this.#sums[lane] ??= new Map(
      [...this.#options.gradients].map(([name, { length }]) => [name, sharedFloats(length)]),
    );
    return this.#sums[lane];
  }

  /** With one thread the lanes share a session, and go one after the other. */
  #pass(hasImages: boolean, adds: boolean, lane: number, limits: ArrayLimits): Promise<GradientPass> {
    const { threads } = this.#options;
    const beside = Math.min(this.#lanes, threads);
    const key = JSON.stringify({ hasImages, adds, lane: lane % beside, limits });
    const known = this.#passes.get(key);
    if (known) return known;
    const pass = this.#compile(hasImages, {
      adds,
      threads: Math.floor(threads / beside),
      lane: lane % beside,
      limits,
    });
    this.#passes.set(key, pass);
    return pass;
  }

  async #compile(
    hasImages: boolean,
    place: Pick<BackwardPassOptions, "adds" | "threads" | "lane"> & { readonly limits: ArrayLimits },
  ): Promise<GradientPass> {
    const { folder, isTrained, lora, recomputes } = this.#options;
    if (!recomputes) return await BackwardPass.compile(folder, { ...place, hasImages, isTrained, lora });
    const { segments, variables } = trainingSegments(folder.model, hasImages, isTrained, lora, undefined, place.limits);
    return await SegmentedPass.compile(segments, this.#frozen, frozenShapes(variables), place);
  }
}

function weightsOf({ headers }: ModelFolder): number {
  return headers
    .flatMap(({ tensors }) => [...tensors.values()])
    .reduce((sum, { shape }) => sum + shape.reduce((count, size) => count * size, 1), 0);
}

function addTo(sums: Gradients, parts: Gradients): void {
  for (const [name, part] of parts) {
    const sum = sums.get(name) as Float32Array;
    for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (part[index] as number);
  }
}
