import { closeAll } from "../runtime/close-all.ts";
import { arrayLimits } from "../batch/array-limits.ts";
import type { ArrayLimits } from "../models/variables.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import { SegmentedPass } from "../segments/segmented-pass.ts";
import { frozenShapes, trainingSegments, type StageSegments } from "../segments/training-segments.ts";
import { ValueStore } from "../segments/value-store.ts";
import type { LaneOptions } from "../training/gradient-lanes.ts";
import { markLast, type GradientSource, type MicroBatches, type StepSums } from "../training/gradient-source.ts";
import { lossFeeds } from "../training/training-graph.ts";
import { FrozenWeights } from "../weights/frozen-weights.ts";
import type { PipelineStage, StageChannel } from "./pipeline-stage.ts";

interface StagePass {
  readonly pass: SegmentedPass;
  readonly segments: StageSegments;
}

/** A micro-batch whose forward pass is done and whose backward pass is not. */
interface InFlight extends StagePass {
  readonly feeds: Feeds;
  readonly symbols: Symbols;
  readonly values: ValueStore;
  readonly isLast: boolean;
}

/**
 * Gradients of one stage of a pipeline. Each stage first takes one micro-batch more forward than there are stages behind it,
 * then one back for each one forward, so no stage holds more than that many (1F1B, Narayanan et al. 2019, PipeDream;
 * flushed at each step, so that all micro-batches see the same weights). Every stage gets the same micro-batches.
 */
export class PipelineGradients implements GradientSource {
  readonly #options: LaneOptions;
  readonly #place: PipelineStage;
  readonly #frozen: FrozenWeights;
  readonly #passes = new Map<string, Promise<StagePass>>();

  constructor(options: LaneOptions, place: PipelineStage) {
    this.#options = options;
    this.#place = place;
    this.#frozen = new FrozenWeights(options.folder);
  }

  async run(
    microBatches: MicroBatches,
    firstRow: number,
    completed: (names: readonly string[]) => void,
  ): Promise<StepSums> {
    const { stage, stages } = this.#place;
    const { model } = this.#options.folder;
    const inFlight: InFlight[] = [];
    let [lossSum, labelTokens, row] = [0, 0, firstRow];
    const back = async (): Promise<void> => {
      const oldest = inFlight.shift();
      if (oldest) lossSum += await this.#backward(oldest, completed);
    };
    for await (const { item: batch, isOnly, isLast } of markLast(microBatches)) {
      const { feeds: loss, tokens } = lossFeeds(batch);
      if (!isOnly && row === firstRow) for (const gradient of this.#options.gradients.values()) gradient.fill(0);
      const first = row;
      row += batch.batchSize;
      if (tokens === 0) continue; // every stage sees that
      labelTokens += tokens;
      const hasImages = batch.pictures.length > 0;
      const limits = arrayLimits(batch, { rows: tokens, vocabulary: model.vocabularySize, headGradient: 0 });
      const stagePass = await this.#pass(hasImages, !isOnly, limits);
      const symbols = { ...model.symbols(batch), L: tokens };
      const feeds: Feeds = {
        ...model.feeds(batch),
        ...loss,
        ...this.#options.furtherFeeds(batch, first),
      };
      const started = { ...stagePass, feeds, symbols, values: new ValueStore(symbols), isLast };
      await this.#forward(started);
      inFlight.push(started);
      if (inFlight.length > stages - 1 - stage) await back();
    }
    while (inFlight.length > 0) await back();
    const isLastStage = stage === stages - 1;
    return {
      lossSum: isLastStage ? lossSum : 0,
      labelTokens: isLastStage ? labelTokens : 0,
      hasGradients: labelTokens > 0,
    };
  }

  async close(): Promise<void> {
    const passes = [...this.#passes.values()];
    this.#passes.clear();
    await closeAll(passes.map((each) => async () => await (await each).pass.close()));
  }

  async #forward({ pass, segments, feeds, symbols, values }: InFlight): Promise<void> {
    const { previous, next } = this.#place;
    if (previous) {
      const arrays = await previous.receive("forward");
      segments.incoming.forEach((value, index) => values.put(value.name, value, arrays[index] as Float32Array));
    }
    await pass.forward(feeds, symbols, values);
    next?.send(
      "forward",
      segments.outgoing.map(({ name }) => held(values, name)),
    );
  }

  /** @returns the summed loss; zero where it is another rank's */
  async #backward(
    { pass, segments, feeds, symbols, values, isLast }: InFlight,
    completed: (names: readonly string[]) => void,
  ): Promise<number> {
    const { previous, next } = this.#place;
    const { gradients } = this.#options;
    if (next) {
      const reached = segments.outgoing.filter(({ isReached }) => isReached);
      const arrays = reached.length > 0 ? await next.receive("back") : [];
      reached.forEach((value, index) => values.put(`d:${value.name}`, value, arrays[index] as Float32Array));
    }
    pass.clear(gradients);
    const loss = await pass.backward(feeds, symbols, values, gradients, isLast ? completed : () => undefined);
    const sentBack = segments.incoming.filter(({ isReached }) => isReached);
    if (previous && sentBack.length > 0) sendBack(previous, values, sentBack);
    return next ? 0 : loss;
  }

  #pass(hasImages: boolean, adds: boolean, limits: ArrayLimits): Promise<StagePass> {
    const key = JSON.stringify({ hasImages, adds, limits });
    const known = this.#passes.get(key) ?? this.#compile(hasImages, adds, limits);
    this.#passes.set(key, known);
    return known;
  }

  async #compile(hasImages: boolean, adds: boolean, limits: ArrayLimits): Promise<StagePass> {
    const { folder, isTrained, lora, threads } = this.#options;
    const segments = trainingSegments(folder.model, hasImages, isTrained, lora, this.#place, limits);
    const frozen = frozenShapes(segments.variables);
    const pass = await SegmentedPass.compile(segments.segments, this.#frozen, frozen, { adds, threads, lane: 0 });
    return { pass, segments };
  }
}

function sendBack(previous: StageChannel, values: ValueStore, sentBack: StageSegments["incoming"]): void {
  for (const value of sentBack) if (!values.get(`d:${value.name}`)) values.make(`d:${value.name}`, value).data.fill(0);
  previous.send(
    "back",
    sentBack.map(({ name }) => held(values, `d:${name}`)),
  );
}

function held(values: ValueStore, name: string): Float32Array {
  const value = values.get(name);
  if (!value) throw new Error(`no segment of this stage gave ${name}`);
  return value.data;
}
