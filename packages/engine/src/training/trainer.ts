import { mkdir } from "node:fs/promises";
import { basename } from "node:path";
import { InvalidError } from "@drydock/kit";
import { initialAdapter } from "../adapters/initial-values.ts";
import type { LoraOptions } from "../adapters/lora-options.ts";
import { readAdapter, writeAdapter } from "../adapters/peft-files.ts";
import { placeLora } from "../adapters/place-lora.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import type { Collective } from "../collectives/collective.ts";
import { HostPasses } from "../generation/host-passes.ts";
import { AnswerGenerator } from "../generation/answer-generator.ts";
import type { Model } from "../models/model.ts";
import type { QuantizationSettings } from "../quantization/quantized-weights.ts";
import type { Feeds } from "../runtime/feeds.ts";
import type { LoraPlacement } from "../models/variables.ts";
import { closeAll } from "../runtime/close-all.ts";
import { refuseNotFinite } from "../weights/check-weights.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { readWeights } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { saveWholeModel } from "../weights/save-model.ts";
import { ThreadedAdamW, type AdamWSettings } from "./adamw.ts";
import { dropoutMask } from "./dropout.ts";
import type { DeviceSettings } from "../device/device.ts";
import { DeviceTraining } from "../device/device-training.ts";
import { PipelineGradients } from "../pipeline/pipeline-gradients.ts";
import type { PipelineStage } from "../pipeline/pipeline-stage.ts";
import { SharedEnds } from "../pipeline/shared-ends.ts";
import { trainedNamesOf, trainingSegments, type StageSegments } from "../segments/training-segments.ts";
import { GradientLanes, type LaneOptions } from "./gradient-lanes.ts";
import type { GradientSource, MicroBatches } from "./gradient-source.ts";
import { RankUpdate, type TrainedValues } from "./rank-update.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";
import { initialOf, newTensor } from "./trained-values.ts";
import { notAsTrained, takeMoments, type TrainerState } from "./trainer-state.ts";
import { trainingGraph } from "./training-graph.ts";

export interface TrainerOptions {
  /** Base model in Hugging Face layout. */
  readonly directory: string;
  readonly mode: "lora" | "full";
  readonly lora: LoraOptions;
  /** Start from this PEFT adapter instead of a fresh one. */
  readonly adapterDirectory?: string;
  readonly optimizer: AdamWSettings & { readonly maxGradientNorm: number };
  readonly schedule: Schedule;
  readonly seed: number;
  readonly threads: number;
  /** Quantizes the decoder's linear layers as they are read: LoRA on a frozen base in few bits. */
  readonly quantize?: QuantizationSettings;
  /** In full mode: which weights are trained; default all. */
  readonly isTrained?: (name: string) => boolean;
  /** Whether activations are computed again layer by layer rather than kept: less memory, about a third more work. */
  readonly recomputes?: boolean;
  /** The ranks that train together, each on its rows of the global batch; absent = this one alone. */
  readonly collective?: Collective;
  /** Each rank keeps the optimizer's state of its shard of the weights only. */
  readonly shardOptimizer?: boolean;
  /** This rank's part of a model that several ranks share layer by layer; absent = the whole model. */
  readonly pipeline?: PipelineStage;
  /** Where gradients and updates are computed; absent = on the CPU, with arrays of the host. */
  readonly device?: DeviceSettings;
}

export interface StepResult {
  /** Mean over the label tokens of the global batch, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  /** Global L2 norm before clipping. */
  readonly gradientNorm: number;
  /** Label tokens of the global batch. */
  readonly labelTokens: number;
}

/**
 * Trains one model on one rank: gradients by ONNX Runtime, the update in place on typed arrays. The loss is the mean over
 * the label tokens of the global batch, whatever the micro-batches.
 */
export class EngineTrainer {
  readonly folder: ModelFolder;
  readonly #options: TrainerOptions;
  readonly #placement: LoraPlacement | null;
  /** All that is trained; what belongs to other stages as it was when it was last gathered. */
  readonly #tensors = new Map<string, TrainedValues>();
  /** What each stage updates. */
  readonly #stages: readonly (readonly string[])[];
  readonly #update: RankUpdate;
  #optimizer: Pick<ThreadedAdamW, "gradientNorm" | "step" | "close">;
  #gradients: GradientSource;
  /** Holds weights and moments between steps, where a device computes. */
  #device: DeviceTraining | null = null;
  readonly #sharedEnds: SharedEnds | null;
  readonly #dropoutPaths: readonly { readonly path: string; readonly width: number }[];
  #generator: AnswerGenerator | null = null;
  #step = 0;
  #gatheredAtStep = 0;

  private constructor(
    folder: ModelFolder,
    options: TrainerOptions,
    placement: LoraPlacement | null,
    tensors: readonly TrainedValues[],
    dropoutPaths: readonly { readonly path: string; readonly width: number }[],
  ) {
    this.folder = folder;
    this.#options = options;
    this.#placement = placement;
    for (const tensor of tensors) this.#tensors.set(tensor.name, tensor);
    const { pipeline = null, collective = null, recomputes = false, threads } = options;
    const stages = Array.from({ length: pipeline?.stages ?? 1 }, (_, stage) => this.#stageSegments(stage));
    this.#stages = stages.map(({ own }) => own);
    const here = stages[pipeline?.stage ?? 0] as StageSegments;
    const known = new Set(here.own);
    this.#dropoutPaths = dropoutPaths.filter(({ path }) => known.has(`${path}.lora_A.weight`));
    const sources: LaneOptions = {
      folder,
      gradients: new Map([...here.own, ...here.borrowed].map((name) => [name, this.#tensor(name).gradient])),
      isTrained: (name) => this.#tensors.has(name),
      lora: placement,
      threads,
      recomputes,
      furtherFeeds: (batch, firstRow) => ({ ...this.#valueFeeds(), ...this.#dropoutFeeds(batch, firstRow) }),
    };
    this.#gradients = pipeline ? new PipelineGradients(sources, pipeline) : new GradientLanes(sources);
    const shared = stages.at(-1)?.borrowed.map((name) => this.#tensor(name)) ?? [];
    this.#sharedEnds = pipeline && new SharedEnds(pipeline, shared);
    this.#update = new RankUpdate(
      here.own.map((name) => this.#tensor(name)),
      {
        all: collective,
        sameTensors: pipeline ? pipeline.sameStage : collective,
        isSharded: options.shardOptimizer ?? false,
      },
    );
    this.#optimizer = new ThreadedAdamW(this.#update.parts, options.optimizer, threads);
  }

  static async open(options: TrainerOptions): Promise<EngineTrainer> {
    const folder = await openModelFolder(options.directory, options);
    if (options.mode === "full" && folder.quantized)
      throw new InvalidError(
        "quantized_base_needs_lora",
        `model ${options.directory} has quantized weights, which cannot be changed in small steps: use mode "lora", or the model's own weights`,
      );
    const adapter =
      options.adapterDirectory === undefined ? null : await readAdapter(options.adapterDirectory, folder.model);
    const placement =
      options.mode === "lora"
        ? adapter
          ? { ...adapter.placement, dropout: options.lora.dropout }
          : placeLora(folder.model, options.lora)
        : null;
    const isTrained = options.mode === "full" ? (options.isTrained ?? (() => true)) : () => false;
    const { forward } = trainingGraph(folder.model, true, isTrained, placement);
    const trained = [...forward.variables.trained].map(([name, node]) => ({
      name,
      shape: node.shape.map(Number),
      isLayerNorm: forward.variables.layerNorms.has(name),
    }));
    const initial = placement
      ? (adapter?.tensors ??
        (await initialAdapter(folder, placement, trained, { ...options.lora, seed: options.seed })))
      : await readWeights(
          folder,
          trained.map(({ name }) => name),
        );
    const here = options.pipeline && trainedNamesOf(folder.model, isTrained, placement, options.pipeline);
    const tensors = trained.map((tensor) =>
      newTensor(
        tensor,
        (options.device === undefined || options.collective !== undefined) &&
          (here === undefined || here.has(tensor.name)),
        initialOf(tensor, initial),
      ),
    );
    const paths = [...forward.variables.dropoutMasks].map(([path, node]) => ({ path, width: Number(node.shape[1]) }));
    const trainer = new EngineTrainer(folder, options, placement, tensors, paths);
    if (options.device) await trainer.#moveTo(options.device);
    return trainer;
  }

  get model(): Model {
    return this.folder.model;
  }

  /** Optimizer steps taken so far. */
  get stepsTaken(): number {
    return this.#step;
  }

  get trainedParameters(): number {
    return [...this.#tensors.values()].reduce((sum, { values }) => sum + values.length, 0);
  }

  /**
   * One optimizer step on the micro-batches of one global batch, or of this rank's rows of it.
   *
   * @param firstRow  position in the global batch of the first row: what dropout drops depends on it
   */
  async step(microBatches: MicroBatches, firstRow = 0): Promise<StepResult> {
    const ends = this.#sharedEnds;
    const own = await this.#gradients.run(microBatches, firstRow, (names) =>
      this.#update.completed(ends ? names.filter((name) => !ends.has(name)) : names),
    );
    if (ends && own.hasGradients) this.#update.completed(await ends.addUp());
    const counts = Float64Array.of(own.lossSum, own.labelTokens);
    await this.#update.reduce(counts, own.hasGradients);
    const [lossSum, labelTokens] = counts as unknown as [number, number];
    if (labelTokens === 0)
      throw new InvalidError(
        "no_label_tokens",
        "no row of this batch has an answer token to learn from; check that answers are not empty",
      );
    if (this.#step === 0 && !Number.isFinite(lossSum)) await refuseNotFinite(this.folder);
    const { optimizer, schedule } = this.#options;
    const norm = (await this.#update.norm(await this.#optimizer.gradientNorm())) / labelTokens;
    this.#device?.observe(Number.isFinite(norm));
    const clip = Math.min(1, optimizer.maxGradientNorm / (norm + 1e-6));
    const learningRate = learningRateAt(schedule, this.#step);
    this.#step += 1;
    // A gradient that is not finite would spoil every weight for good; leaving the update out leaves the run a chance.
    if (Number.isFinite(norm)) {
      await this.#optimizer.step(learningRate, this.#step, clip / labelTokens);
      await this.#update.share();
      await ends?.share();
      if (this.#options.collective) this.#device?.hostChanged();
    }
    return { loss: lossSum / labelTokens, learningRate, gradientNorm: norm, labelTokens };
  }

  state(): TrainerState {
    return {
      step: this.#step,
      tensors: [...this.#tensors.values()].map(({ name, shape, values }) => ({ name, shape, values })),
      moments: this.#update.parts.map(({ name, start, firstMoment, secondMoment }) => ({
        name,
        start,
        firstMoment,
        secondMoment,
      })),
    };
  }

  /**
   * Takes a state over, the moments from pieces cut in any way: those of other ranks and other numbers of ranks too.
   *
   * @throws InvalidError when a tensor or a part of its moments is missing or has another size
   */
  restore(state: TrainerState): void {
    const byName = new Map(state.tensors.map((tensor) => [tensor.name, tensor]));
    for (const tensor of this.#tensors.values()) {
      const saved = byName.get(tensor.name);
      if (saved?.values.length !== tensor.values.length) throw notAsTrained(tensor.name);
      tensor.values.set(saved.values);
    }
    for (const part of this.#update.parts) {
      const pieces = state.moments.filter(({ name }) => name === part.name);
      if (!takeMoments(part, pieces)) throw notAsTrained(part.name);
    }
    this.#step = state.step;
    this.#gatheredAtStep = state.step;
    this.#device?.hostChanged();
  }

  /**
   * Brings the weights of all stages here, where several share the model, and those of the device, with their moments: before
   * weights are saved and before answers. Every rank calls it.
   */
  async gather(): Promise<void> {
    const { pipeline, collective } = this.#options;
    if (this.#gatheredAtStep !== this.#step) await this.#device?.download();
    if (this.#device) this.#gatheredAtStep = this.#step;
    if (!pipeline || !collective || this.#gatheredAtStep === this.#step) return;
    for (const [stage, names] of this.#stages.entries()) {
      const values = names.map((name) => this.#tensor(name).values);
      if (values.length > 0) await collective.broadcast(values, stage);
    }
    this.#gatheredAtStep = this.#step;
  }

  /** Answers with the weights as they are now. */
  async generator(): Promise<AnswerGenerator> {
    const lora = this.#placement ? { ...this.#placement, dropout: 0 } : null;
    this.#generator ??= new AnswerGenerator(
      this.#device?.passes(lora) ??
        new HostPasses({
          threads: this.#options.threads,
          folder: this.folder,
          lora,
          live: new Map([...this.#tensors.values()].map(({ name, values, shape }) => [name, { data: values, shape }])),
        }),
    );
    return this.#generator;
  }

  /** Writes the trained weights: a PEFT adapter, or a whole model folder that `transformers` loads. */
  async save(directory: string): Promise<void> {
    await mkdir(directory, { recursive: true });
    const tensors = [...this.#tensors.values()].map(({ name, shape, values }) => ({ name, shape, data: values }));
    if (this.#options.mode === "lora")
      return await writeAdapter(
        directory,
        this.#options.lora,
        this.#placement as LoraPlacement,
        basename(this.folder.directory),
        tensors,
      );
    await saveWholeModel(this.folder, directory, tensors);
  }

  async close(): Promise<void> {
    const generator = this.#generator;
    await closeAll([
      // Answers of a device end before the device does.
      generator && (async () => await generator.close()),
      async () => await this.#gradients.close(),
      async () => await this.#optimizer.close(),
    ]);
  }

  /** @throws InvalidError where the layout needs what a device does not do yet */
  async #moveTo(device: DeviceSettings): Promise<void> {
    const { collective, pipeline, recomputes = false, optimizer } = this.#options;
    if (pipeline)
      throw new InvalidError(
        "unsupported_on_device",
        `${device.kind} device: stages of a pipeline run on the CPU only; choose a layout with pipelineStages 1`,
      );
    const updates = collective ? "host" : "device";
    const none = new Float32Array(0);
    const whole = [...this.#tensors.values()].map((each) => ({ ...each, firstMoment: none, secondMoment: none }));
    this.#device = await DeviceTraining.open({
      device,
      folder: this.folder,
      isTrained: (name) => this.#tensors.has(name),
      lora: this.#placement,
      optimizer,
      parts: updates === "device" ? this.#update.parts : whole,
      updates,
      recomputes,
      furtherFeeds: (batch, firstRow) => this.#dropoutFeeds(batch, firstRow),
    });
    this.#gradients = this.#device;
    if (updates === "device") this.#optimizer = this.#device;
  }

  #tensor(name: string): TrainedValues {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new Error(`${name} is not trained`);
    return tensor;
  }

  /** What a stage trains, in the order in which its gradients become final. */
  #stageSegments(stage: number): Pick<StageSegments, "own" | "borrowed"> {
    const { pipeline, collective } = this.#options;
    if (!pipeline && !collective) return { own: [...this.#tensors.keys()], borrowed: [] };
    const { segments, own, borrowed } = trainingSegments(
      this.model,
      true,
      (name) => this.#tensors.has(name),
      this.#placement,
      { stage, stages: pipeline?.stages ?? 1 },
    );
    const known = new Set(own);
    const ordered = segments.toReversed().flatMap(({ completes }) => completes);
    return { own: ordered.filter((name) => known.has(name)), borrowed };
  }

  #valueFeeds(): Feeds {
    return Object.fromEntries(
      [...this.#tensors.values()].map(({ name, values, shape }) => [name, { data: values, shape }]),
    );
  }

  #dropoutFeeds(batch: ModelBatch, firstRow: number): Feeds {
    const feeds: Feeds = {};
    const probability = this.#placement?.dropout ?? 0;
    for (const { path, width } of this.#dropoutPaths) {
      const data = dropoutMask(
        probability,
        this.#options.seed,
        this.#step,
        firstRow,
        batch.batchSize,
        batch.sequenceLength,
        width,
        path,
      );
      feeds[`dropout:${path}`] = { data, shape: [batch.batchSize * batch.sequenceLength, width] };
    }
    return feeds;
  }
}
