import type { ModelBatch } from "../batch/model-batch.ts";
import { gradient } from "../graph/gradient.ts";
import type { Node } from "../graph/ops.ts";
import type { Shape } from "../graph/shape.ts";
import type { ForwardGraph } from "../models/model.ts";
import type { LoraPlacement } from "../models/variables.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import { cutGraph } from "../segments/cut-graph.ts";
import { frozenShapes } from "../segments/training-segments.ts";
import type { AdamWSettings } from "../training/adamw.ts";
import type { GradientSource, MicroBatches, StepSums } from "../training/gradient-source.ts";
import type { TrainedPart } from "../training/rank-update.ts";
import { addTo, lossFeeds, lossGraph } from "../training/training-graph.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { AnswerPasses } from "../generation/answer-passes.ts";
import { Device, type DeviceSettings } from "./device.ts";
import { DeviceGraph } from "./device-graph.ts";
import { DevicePasses } from "./device-passes.ts";
import { DeviceSegments } from "./device-segments.ts";
import { DeviceWeights } from "./device-weights.ts";
import { LossScale } from "./loss-scale.ts";
import {
  deviceNames,
  squaresModel,
  updateFactors,
  updateModel,
  zerosModel,
  type UpdateFactors,
} from "./update-model.ts";

/** Graph input with the factor on the loss. */
const scaleInput = "loss-scale";
/** Loss scale that float16 begins with (torch.amp.GradScaler's). */
const firstScaleOfFloat16 = 2 ** 16;

export interface DeviceTrainingOptions {
  readonly device: DeviceSettings;
  readonly folder: ModelFolder;
  readonly isTrained: (name: string) => boolean;
  readonly lora: LoraPlacement | null;
  readonly optimizer: AdamWSettings;
  /** The trained tensors, whole, with their moments: copied to the device before the first step, and back by `download`. */
  readonly parts: readonly DevicePart[];
  /**
   * Where AdamW runs. On the host with several ranks: gradients come to the host after each step, where ranks sum them, and the
   * values go back before the next one; moments then stay on the host.
   */
  readonly updates: "device" | "host";
  /** Whether activations are computed again for the backward pass, layer by layer, rather than kept. */
  readonly recomputes: boolean;
  /** Feeds that are no part of the batch, such as dropout masks. */
  readonly furtherFeeds: (batch: ModelBatch, firstRow: number) => Feeds;
}

/** A trained tensor with what the update needs of it; moments of no length where the host updates it. */
export type DevicePart = Omit<TrainedPart, "start">;

/** Runs one micro-batch, adding to the gradients on the device; answers its summed loss. */
type DevicePass = (feeds: Feeds, symbols: Symbols) => Promise<number>;

/**
 * Gradients and AdamW on a device: weights, gradients and moments stay there from step to step, and only the batch goes in and the
 * loss and the norm come out. Gradients of looked-up rows are summed in the graph, which is exact on a GPU and on one thread.
 */
export class DeviceTraining implements GradientSource {
  readonly #options: DeviceTrainingOptions;
  readonly #device: Device;
  readonly #weights: DeviceWeights;
  readonly #scale: LossScale;
  readonly #trained: ReadonlySet<string>;
  readonly #passes = new Map<boolean, Promise<DevicePass>>();
  readonly #update: number;
  readonly #squares: number;
  readonly #zeros: number;
  #isUploaded = false;
  /** Scale of the gradients that are on the device. */
  #scaleOfGradients = 1;

  private constructor(
    options: DeviceTrainingOptions,
    device: Device,
    sessions: { readonly update: number; readonly squares: number; readonly zeros: number },
  ) {
    this.#options = options;
    this.#device = device;
    this.#update = sessions.update;
    this.#squares = sessions.squares;
    this.#zeros = sessions.zeros;
    this.#weights = new DeviceWeights(device, options.folder);
    this.#scale = new LossScale(options.device.matrices === "float16" ? firstScaleOfFloat16 : 1);
    this.#trained = new Set(options.parts.map(({ name }) => name));
  }

  static async open(options: DeviceTrainingOptions): Promise<DeviceTraining> {
    const device = await Device.start(options.device);
    try {
      const names = options.parts.map(({ name }) => name);
      const update = await device.open(updateModel(options.parts));
      const squares = await device.open(squaresModel(names));
      const zeros = await device.open(zerosModel(names));
      return new DeviceTraining(options, device, { update, squares, zeros });
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  async run(
    microBatches: MicroBatches,
    firstRow: number,
    completed: (names: readonly string[]) => void,
  ): Promise<StepSums> {
    await this.#upload();
    this.#scaleOfGradients = this.#scale.value;
    await this.#clear();
    let [lossSum, labelTokens, row] = [0, 0, firstRow];
    for await (const batch of microBatches) {
      const { feeds, tokens } = lossFeeds(batch);
      if (tokens > 0) lossSum += await this.#runBatch(batch, row, feeds, tokens);
      labelTokens += tokens;
      row += batch.batchSize;
    }
    if (this.#options.updates === "host") await this.#bringGradients(completed);
    return { lossSum, labelTokens, hasGradients: labelTokens > 0 };
  }

  /** Takes note whether a step's gradients were finite, where the host computes their norm. */
  observe(isFinite: boolean): void {
    if (this.#options.updates === "host") this.#scale.observe(isFinite);
  }

  /** L2 norm over all gradients. One that is not finite halves the loss scale for the next step. */
  async gradientNorm(): Promise<number> {
    const names = this.#options.parts.map(({ name }) => deviceNames.gradient(name));
    const { squares } = await this.#device.run({
      session: this.#squares,
      feeds: [],
      stored: Object.fromEntries(names.map((name) => [name, name])),
      inPlace: {},
      kept: {},
      wanted: [{ name: "squares", shape: [] }],
    });
    const norm = Math.sqrt(squares?.[0] ?? Number.NaN) / this.#scaleOfGradients;
    this.#scale.observe(Number.isFinite(norm));
    return norm;
  }

  /** One AdamW step, as `ThreadedAdamW.step`. */
  async step(learningRate: number, step: number, gradientScale: number): Promise<void> {
    const { betas, epsilon, weightDecay } = this.#options.optimizer;
    const [beta1, beta2] = betas;
    const factors: UpdateFactors = {
      scale: gradientScale / this.#scaleOfGradients,
      beta1,
      rest1: 1 - beta1,
      beta2,
      rest2: 1 - beta2,
      keep: 1 - learningRate * weightDecay,
      rate: learningRate / (1 - beta1 ** step),
      rootScale: 1 / Math.sqrt(1 - beta2 ** step),
      epsilon,
    };
    const arrays = this.#options.parts.flatMap(({ name }) => [
      deviceNames.values(name),
      deviceNames.firstMoment(name),
      deviceNames.secondMoment(name),
    ]);
    const gradients = this.#options.parts.map(({ name }) => deviceNames.gradient(name));
    const used = updateFactors.filter(
      (name) => name !== "keep" || this.#options.parts.some(({ isDecayed }) => isDecayed),
    );
    await this.#device.run({
      session: this.#update,
      feeds: used.map((name) => ({ name, data: Float32Array.of(factors[name]), shape: [], type: "float32" })),
      stored: Object.fromEntries([...arrays, ...gradients].map((name) => [name, name])),
      inPlace: Object.fromEntries(arrays.map((name) => [`new:${name}`, name])),
      kept: {},
      wanted: [],
    });
  }

  /** The arrays of the host have changed: they are copied to the device before the next step. */
  hostChanged(): void {
    this.#isUploaded = false;
  }

  /** Copies weights and moments to the arrays of the host, where the device updates them. */
  async download(): Promise<void> {
    if (!this.#isUploaded || this.#options.updates === "host") return;
    for (const part of this.#options.parts)
      for (const [name, array] of arraysOf(part)) await this.#device.get(name, array, part.shape);
  }

  /** Answers with the weights as they are on the device. */
  passes(lora: LoraPlacement | null): AnswerPasses {
    const { folder, isTrained } = this.#options;
    const upload = async (): Promise<void> => await this.#upload();
    return new DevicePasses({
      device: this.#device,
      weights: this.#weights,
      folder,
      lora,
      isTrained,
      live: this.#trained,
      prepare: upload,
    });
  }

  async close(): Promise<void> {
    await this.#device.close();
  }

  async #upload(): Promise<void> {
    if (this.#isUploaded) return;
    for (const part of this.#options.parts) {
      const arrays = this.#options.updates === "host" ? arraysOf(part).slice(0, 1) : arraysOf(part);
      for (const [name, data] of arrays) await this.#device.put({ name, data, shape: part.shape, type: "float32" });
    }
    this.#isUploaded = true;
  }

  /** Copies the gradients to the arrays of the host, without the scale. */
  async #bringGradients(completed: (names: readonly string[]) => void): Promise<void> {
    for (const { name, shape, gradient: sum } of this.#options.parts) {
      await this.#device.get(deviceNames.gradient(name), sum, shape);
      if (this.#scaleOfGradients !== 1)
        for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) / this.#scaleOfGradients;
      completed([name]);
    }
  }

  /** Makes all gradients zero. */
  async #clear(): Promise<void> {
    const names = this.#options.parts.map(({ name }) => name);
    await this.#device.run({
      session: this.#zeros,
      feeds: [],
      stored: Object.fromEntries(names.map((name) => [deviceNames.values(name), deviceNames.values(name)])),
      inPlace: {},
      kept: Object.fromEntries(names.map((name) => [`zero:${name}`, deviceNames.gradient(name)])),
      wanted: [],
    });
  }

  async #runBatch(batch: ModelBatch, firstRow: number, loss: Feeds, tokens: number): Promise<number> {
    const { folder, furtherFeeds } = this.#options;
    const pass = await this.#pass(batch.pictures.length > 0);
    const scale = { data: Float32Array.of(this.#scaleOfGradients), shape: [] };
    const feeds = {
      ...folder.model.feeds(batch),
      ...loss,
      ...furtherFeeds(batch, firstRow),
      [scaleInput]: scale,
    };
    return (await pass(feeds, { ...folder.model.symbols(batch), L: tokens })) / this.#scaleOfGradients;
  }

  #pass(hasImages: boolean): Promise<DevicePass> {
    const known = this.#passes.get(hasImages) ?? this.#compile(hasImages);
    this.#passes.set(hasImages, known);
    return known;
  }

  async #compile(hasImages: boolean): Promise<DevicePass> {
    const { folder, isTrained, lora, recomputes, device } = this.#options;
    const { forward, loss } = lossGraph(folder.model, hasImages, isTrained, lora);
    const { graph, variables } = forward;
    const scaled = graph.mul(loss, graph.input(scaleInput, []));
    const frozen = frozenShapes(variables);
    await this.#weights.put(frozen);
    const low = device.matrices === "float32" ? null : device.matrices;
    if (!recomputes) return await this.#compileWhole(forward, scaled, frozen, low);
    const segments = cutGraph(scaled, [...forward.visionBlocks, ...forward.layers], variables.trained);
    const pass = await DeviceSegments.compile(segments, {
      device: this.#device,
      weights: this.#weights,
      matrices: low,
      trained: new Map(this.#options.parts.map(({ name, shape }) => [name, shape])),
      frozen,
    });
    return async (feeds, symbols) => await pass.run(feeds, symbols);
  }

  async #compileWhole(
    { graph, variables }: ForwardGraph,
    loss: Node,
    frozen: ReadonlyMap<string, Shape>,
    low: "float16" | "bfloat16" | null,
  ): Promise<DevicePass> {
    const trained = [...variables.trained];
    const nodes = trained.map(([, node]) => node);
    const outputs: Record<string, Node> = { loss };
    gradient(graph, loss, nodes).forEach((part, index) => {
      const name = trained[index]?.[0] as string;
      outputs[`gradient:${name}`] = addTo(graph, graph.input(`sum:${name}`, part.shape), part);
    });
    const whole = await DeviceGraph.compile(this.#device, outputs, {
      ...(low ? { matrices: low } : {}),
      stored: this.#weights.typesOf(frozen),
    });
    const kept = Object.fromEntries(trained.map(([name]) => [`gradient:${name}`, deviceNames.gradient(name)]));
    return async (feeds, symbols) => {
      const storedName = (input: string): string | null => this.#storedName(input);
      const results = await whole.run({ feeds, symbols, storedName, kept, wanted: ["loss"] });
      return results["loss"]?.[0] ?? Number.NaN;
    };
  }

  #storedName(input: string): string | null {
    if (input.startsWith("sum:")) return deviceNames.gradient(input.slice("sum:".length));
    return this.#trained.has(input) ? deviceNames.values(input) : this.#weights.storedName(input);
  }
}

/** Arrays of a part that live on the device, by their names there. */
function arraysOf({ name, values, firstMoment, secondMoment }: DevicePart): [string, Float32Array][] {
  return [
    [deviceNames.values(name), values],
    [deviceNames.firstMoment(name), firstMoment],
    [deviceNames.secondMoment(name), secondMoment],
  ];
}
