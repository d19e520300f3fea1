import type { MemoryLayout, MemoryQuestion, MemorySample } from "./memory-question.ts";
import type { Architecture } from "../catalogue/architecture.ts";
import {
  countParameters,
  decoderLinears,
  loraParameters,
  visionLoraParameters,
  type ParameterCounts,
} from "../catalogue/parameters.ts";
import type { MemoryTerm } from "../contract/plan.ts";
import { attentionMatrixBytes, decoderLayerValues, visionBlockBytes } from "./activations.ts";
import { formatBytes, formatCount } from "./format.ts";
import { processorCopies, processorMemory, streamedWeights } from "./processor-memory.ts";
import { bitsPerWeight, type MemoryRecipe } from "./recipe.ts";

export interface MemoryEstimate {
  readonly terms: readonly MemoryTerm[];
  /** Sum of the terms. */
  readonly totalBytes: number;
}

/**
 * Memory of the fullest GPU, by term, in whole bytes. A pure function of the architecture, the layout, the longest sample and the
 * recipe; every term carries its formula with the numbers filled in. With pipeline stages the fullest stage counts.
 *
 * Sources: 18 bytes a parameter and the ZeRO shares, DeepSpeed `stage_1_and_2.py` and `stage3.py`
 * (`estimate_zero*_model_states_mem_needs`); recomputation, Korthikanti et al. 2022; logits, fit of Qwen's published
 * sequence-length series. docs/decisions/0003-memory-model.md holds predicted against measured.
 */
export function estimateMemory(question: MemoryQuestion): MemoryEstimate {
  const parts = stageParts(question);
  const state = trainableState(question, parts);
  const kept = activationTerm(question);
  const logits = logitTerm(question);
  const vision = visionTransient(question, kept.sizeBytes + logits.sizeBytes);
  const activations = { sizeBytes: kept.sizeBytes + vision.sizeBytes, formula: kept.formula + vision.formula };
  const terms: MemoryTerm[] = [
    weightTerm(question, parts),
    adapterTerm(question, state),
    gradientTerm(question, state),
    optimizerTerm(question, state, activations.sizeBytes + logits.sizeBytes),
    { name: "activations", ...activations },
    { name: "logits", ...logits },
    runtimeTerm(question, parts, state),
  ];
  return { terms, totalBytes: terms.reduce((total, term) => total + term.sizeBytes, 0) };
}

/** Parameters of the model on the fullest pipeline stage, split over tensor-parallel GPUs. */
interface StageParts {
  readonly counts: ParameterCounts;
  readonly decoderLinears: number;
  readonly decoderOther: number;
  /** Embeddings and output head. */
  readonly embeddings: number;
  readonly vision: number;
  readonly bridge: number;
  readonly layerShare: number;
}

interface Term {
  readonly sizeBytes: number;
  readonly formula: string;
}

const noTerm: Term = { sizeBytes: 0, formula: "" };

function stageParts({ architecture, layout }: MemoryQuestion): StageParts {
  const counts = countParameters(architecture);
  const { pipelineStages: stages, tensorParallel } = layout;
  const layers = architecture.text.layers;
  const layerShare = Math.ceil(layers / stages) / layers;
  const common = {
    counts,
    layerShare,
    decoderLinears: (counts.decoderLinears * layerShare) / tensorParallel,
    decoderOther: counts.decoderOther * layerShare,
  };
  const whole = { embeddings: counts.embeddings + counts.head, vision: counts.vision, bridge: counts.bridge };
  if (stages === 1) return { ...common, ...whole, embeddings: whole.embeddings / tensorParallel };
  // The first stage holds embeddings, tower and bridge; the last the head, a copy of the embeddings when tied.
  const first = { embeddings: counts.embeddings / tensorParallel, vision: counts.vision, bridge: counts.bridge };
  const last = {
    embeddings: (counts.head === 0 ? counts.embeddings : counts.head) / tensorParallel,
    vision: 0,
    bridge: 0,
  };
  return { ...common, ...(total(first) >= total(last) ? first : last) };
}

function total(parts: { embeddings: number; vision: number; bridge: number }): number {
  return parts.embeddings + parts.vision + parts.bridge;
}

interface TrainableState {
  /** Base parameters that learn on this stage, and adapter parameters. */
  readonly base: number;
  readonly adapter: number;
  readonly copiedEmbeddings: number;
}

function trainableState({ architecture, trainable, lora, layout }: MemoryQuestion, parts: StageParts): TrainableState {
  const decoder = trainable.decoder === "full" ? parts.decoderLinears + parts.decoderOther : 0;
  const base =
    decoder +
    (trainable.vision === "full" ? parts.vision : 0) +
    (trainable.bridge === "full" ? parts.bridge : 0) +
    (trainable.embeddings === "full" ? parts.embeddings : 0);
  const rank = lora?.rank ?? 0;
  const decoderAdapter =
    lora === null
      ? 0
      : (loraParameters(architecture.text, rank, lora.targets) * parts.layerShare) / layout.tensorParallel;
  const visionAdapter =
    trainable.vision === "adapter" && architecture.vision !== null && parts.vision > 0
      ? visionLoraParameters(architecture.vision, rank)
      : 0;
  return {
    base,
    adapter: decoderAdapter + visionAdapter,
    copiedEmbeddings: trainable.embeddings === "copy" ? parts.embeddings : 0,
  };
}

/** Ranks over which a part of the state is split. */
function shardsOf(layout: MemoryLayout, part: "optimizer" | "gradients" | "weights"): number {
  const levels = { none: 0, optimizer: 1, gradients: 2, full: 3 } as const;
  const needed = { optimizer: 1, gradients: 2, weights: 3 } as const;
  return levels[layout.sharding] >= needed[part] ? layout.dataParallel : 1;
}

function weightTerm(question: MemoryQuestion, parts: StageParts): MemoryTerm {
  const { recipe, baseWeights, trainable, layout } = question;
  const shards = shardsOf(layout, "weights");
  const isQuantized = baseWeights !== "bf16";
  const linearBytes =
    trainable.decoder === "full"
      ? recipe.full.weight
      : isQuantized
        ? bitsPerWeight[baseWeights] / 8
        : recipe.frozenBytes;
  const frozenEmbeddingBytes = isQuantized ? recipe.quantizedBaseOtherBytes : recipe.frozenBytes;
  const embeddingBytes = trainable.embeddings === "full" ? recipe.full.weight : frozenEmbeddingBytes;
  const visionBytes = trainable.vision === "full" ? recipe.full.weight : recipe.frozenBytes;
  const groups = [
    { label: "decoder layers", parameters: parts.decoderLinears, bytes: linearBytes },
    { label: "embeddings and head", parameters: parts.embeddings, bytes: embeddingBytes },
    {
      label: "vision, bridge and norms",
      parameters: parts.vision + parts.bridge + parts.decoderOther,
      bytes: visionBytes,
    },
  ].filter((group) => group.parameters > 0);
  const unpacked = isQuantized
    ? { parameters: largestLinear(question.architecture), bytes: recipe.unpackedBytes[baseWeights] }
    : { parameters: 0, bytes: 0 };
  const all = groups.reduce((sum, group) => sum + group.parameters * group.bytes, 0) / shards;
  const streams = recipe.isProcessor && layout.recomputeActivations && trainable.decoder === "adapter" && !isQuantized;
  const held = streams ? Math.min(all, streamedWeights(question.architecture)) : all;
  const sizeBytes = Math.ceil(held + unpacked.parameters * unpacked.bytes);
  const text = groups
    .map((group) => `${Number(group.bytes.toFixed(4))} B × ${formatCount(group.parameters)} ${group.label}`)
    .join(" + ");
  const stage = layout.pipelineStages > 1 ? ` on the fullest of ${layout.pipelineStages} stages` : "";
  const unpackedText =
    unpacked.bytes > 0
      ? ` + ${unpacked.bytes} B × ${formatCount(unpacked.parameters)} of the layer that is unpacked`
      : "";
  return {
    name: "weights",
    sizeBytes,
    formula: `${held < all ? `${formatBytes(held)} at a time of ` : ""}${shards > 1 ? `(${text}) / ${shards}` : text}${unpackedText}${stage}`,
  };
}

function largestLinear({ text }: Architecture): number {
  return Math.max(...decoderLinears(text).map(({ inputSize, outputSize }) => inputSize * outputSize));
}

function adapterTerm({ recipe, lora, layout }: MemoryQuestion, state: TrainableState): MemoryTerm {
  const shards = shardsOf(layout, "weights");
  const copies = (state.copiedEmbeddings * recipe.frozenBytes) / shards;
  if (state.adapter === 0 && copies === 0)
    return { name: "adapter", sizeBytes: 0, formula: "no adapter in full fine-tuning" };
  const rank = lora === null ? "" : ` (rank ${lora.rank} · (in + out) over the targeted layers)`;
  return {
    name: "adapter",
    sizeBytes: Math.ceil((state.adapter * recipe.adapter.weight) / shards + copies),
    formula: `${recipe.adapter.weight} B × ${formatCount(state.adapter)} adapter parameters${rank}${shards > 1 ? ` / ${shards}` : ""}${copies > 0 ? ` + ${formatBytes(copies)} copied embeddings` : ""}`,
  };
}

/** A copied embedding is 16-bit with 16-bit gradient and moments, whatever the recipe of the base. */
const copiedState = { gradient: 2, optimizer: 4, update: 4 } as const;

function gradientTerm({ recipe, layout }: MemoryQuestion, state: TrainableState): MemoryTerm {
  const shards = shardsOf(layout, "gradients");
  const held =
    (state.base * recipe.full.gradient +
      state.adapter * recipe.adapter.gradient +
      state.copiedEmbeddings * copiedState.gradient) /
    shards;
  return {
    name: "gradients",
    sizeBytes: Math.ceil(held),
    formula: stateFormula(state, recipe.full.gradient, recipe.adapter.gradient, shards),
  };
}

/**
 * Moments and master weights, and the temporaries of the update. The update runs after the activations were freed, so
 * its temporaries count only as far as they exceed them: the peak is whichever of the two is larger.
 */
function optimizerTerm({ recipe, layout }: MemoryQuestion, state: TrainableState, dynamicBytes: number): MemoryTerm {
  const shards = shardsOf(layout, "optimizer");
  const held =
    (state.base * recipe.full.optimizer +
      state.adapter * recipe.adapter.optimizer +
      state.copiedEmbeddings * copiedState.optimizer) /
    shards;
  const group = Math.min(recipe.updateGroupParameters, (state.base + state.adapter) / shards);
  const copiedGroup = Math.min(recipe.updateGroupParameters, state.copiedEmbeddings / shards);
  const temporaries = group * recipe.updateBytes + copiedGroup * (recipe.updateBytes === 0 ? 0 : copiedState.update);
  const excess = Math.max(0, Math.ceil(temporaries) - dynamicBytes);
  const update =
    temporaries > 0
      ? ` + ${formatBytes(excess)} of the update (${recipe.updateBytes} B × ${formatCount(group)}, less the ${formatBytes(dynamicBytes)} of activations freed before it)`
      : "";
  return {
    name: "optimizer",
    sizeBytes: Math.ceil(held) + excess,
    formula: stateFormula(state, recipe.full.optimizer, recipe.adapter.optimizer, shards) + (excess > 0 ? update : ""),
  };
}

function stateFormula(state: TrainableState, baseBytes: number, adapterBytes: number, shards: number): string {
  const parts = [
    state.base > 0 ? `${baseBytes} B × ${formatCount(state.base)} trained parameters` : "",
    state.adapter > 0 ? `${adapterBytes} B × ${formatCount(state.adapter)} adapter parameters` : "",
    state.copiedEmbeddings > 0 ? `${formatCount(state.copiedEmbeddings)} copied embeddings` : "",
  ].filter((part) => part !== "");
  const text = parts.join(" + ");
  return shards > 1 ? `(${text}) / ${shards} ranks` : text;
}

function activationTerm({ architecture, layout, sample, recipe, trainable }: MemoryQuestion): Term {
  const { text, vision } = architecture;
  const tokens = layout.microBatchSize * sample.tokens;
  const bytes = recipe.activationBytes;
  // Earlier stages hold as many micro-batches as there are stages after them, so stages do not divide what is kept.
  const inFlight = Math.min(layout.pipelineStages, layout.accumulationSteps) / layout.pipelineStages;
  const keptLayers = text.layers * inFlight;
  const layerBytes = (bytes * decoderLayerValues(text)) / layout.tensorParallel;
  const isInPieces = recipe.isProcessor && sample.tokens > processorMemory.longRow;
  const matrix =
    recipe.attention === "explicit" && !isInPieces
      ? (layout.microBatchSize * text.heads * sample.tokens ** 2) / layout.tensorParallel
      : 0;
  const piece = isInPieces ? processorMemory.attentionElements * processorMemory.pieceBytes : 0;
  const factor =
    recipe.isProcessor && !layout.recomputeActivations ? processorMemory.keptFactor : recipe.allocatorFactor;
  const decoder = layout.recomputeActivations
    ? tokens * bytes * text.hiddenSize * keptLayers + tokens * layerBytes + matrix * attentionMatrixBytes.working
    : keptLayers * (tokens * layerBytes + matrix * attentionMatrixBytes.kept) +
      matrix * (attentionMatrixBytes.working - attentionMatrixBytes.kept);
  const patches = layout.microBatchSize * sample.patches;
  const tower =
    vision === null || trainable.vision === "frozen" ? 0 : visionKept(vision, patches, sample, layout, recipe);
  const size = (decoder + tower + piece) * factor;
  const shape = layout.recomputeActivations
    ? `${bytes} B × ${text.hiddenSize} × ${round(keptLayers)} layers kept + ${formatBytes(layerBytes)} of the layer in work`
    : `${round(keptLayers)} layers × ${formatBytes(layerBytes)}`;
  const matrixText = `${layout.microBatchSize} × ${text.heads} heads × ${sample.tokens}²`;
  const matrixBytes = layout.recomputeActivations
    ? `${attentionMatrixBytes.working} B`
    : `(${attentionMatrixBytes.kept} B × ${round(keptLayers)} layers + ${attentionMatrixBytes.working - attentionMatrixBytes.kept} B)`;
  const attention = matrix > 0 ? ` + ${matrixBytes} × ${matrixText} attention` : "";
  const inPieces = piece > 0 ? ` + ${formatBytes(piece)} of a piece of the attention` : "";
  const seen = tower > 0 ? ` + ${formatBytes(tower)} of the vision tower` : "";
  return {
    sizeBytes: Math.ceil(size),
    formula: `${factor} × (${formatCount(tokens)} tokens × (${shape})${attention}${inPieces}${seen})`,
  };
}

function visionKept(
  vision: NonNullable<Architecture["vision"]>,
  patches: number,
  sample: MemorySample,
  layout: MemoryLayout,
  recipe: MemoryRecipe,
): number {
  const block = patches * visionBlockBytes(vision, recipe.activationBytes);
  const matrix = visionMatrix(vision, patches, sample, recipe);
  return layout.recomputeActivations
    ? patches * recipe.activationBytes * vision.hiddenSize * vision.layers +
        block +
        matrix * attentionMatrixBytes.working
    : vision.layers * (block + matrix * attentionMatrixBytes.kept) +
        matrix * (attentionMatrixBytes.working - attentionMatrixBytes.kept);
}

function visionMatrix(
  vision: NonNullable<Architecture["vision"]>,
  patches: number,
  sample: MemorySample,
  recipe: MemoryRecipe,
): number {
  if (recipe.attention !== "explicit") return 0;
  const elements = vision.heads * patches * sample.patchesPerSegment;
  const isInPieces = recipe.isProcessor && sample.patchesPerSegment > processorMemory.longRow;
  return isInPieces ? Math.min(elements, processorMemory.attentionElements) : elements;
}

/** A frozen tower runs before the decoder and frees its block: it counts only as far as it exceeds what comes after. */
function visionTransient(
  { architecture, trainable, layout, sample, recipe }: MemoryQuestion,
  laterBytes: number,
): Term {
  const { vision } = architecture;
  if (vision === null || trainable.vision !== "frozen" || sample.patches === 0) return noTerm;
  const patches = layout.microBatchSize * sample.patches;
  const matrix = visionMatrix(vision, patches, sample, recipe) * 2 * attentionMatrixBytes.kept;
  const block = (patches * visionBlockBytes(vision, recipe.activationBytes) + matrix) * recipe.allocatorFactor;
  const excess = Math.max(0, Math.ceil(block) - laterBytes);
  return excess === 0
    ? noTerm
    : {
        sizeBytes: excess,
        formula: ` + ${formatBytes(excess)} more while the frozen vision tower runs on ${formatCount(patches)} patches`,
      };
}

function logitTerm({ architecture, layout, sample, recipe, baseWeights }: MemoryQuestion): Term {
  const bytes = baseWeights === "bf16" ? recipe.logitBytes : recipe.logitBytesQuantizedBase;
  const rows = layout.microBatchSize * (recipe.logitRows === "labels" ? sample.labels : sample.tokens);
  const vocabulary = architecture.text.vocabularySize / layout.tensorParallel;
  const sizeBytes = Math.ceil(bytes * rows * vocabulary * recipe.allocatorFactor);
  const what = recipe.logitRows === "labels" ? "answer positions" : "positions";
  return {
    sizeBytes,
    formula:
      bytes === 0
        ? "fused with the output head"
        : `${recipe.allocatorFactor} × ${bytes} B × ${formatCount(rows)} ${what} × ${formatCount(vocabulary)} words`,
  };
}

/** Elements of DeepSpeed's gathered parameters and of a communication bucket. */
const gathered = { liveParameters: 1e9, bucketParameters: 5e8 } as const;

function runtimeTerm(question: MemoryQuestion, parts: StageParts, state: TrainableState): MemoryTerm {
  const { architecture, recipe, layout } = question;
  const copies = recipe.isProcessor ? processorCopies(question, parts.counts, state.base + state.adapter) : noTerm;
  const ranks = layout.dataParallel * layout.pipelineStages * layout.tensorParallel;
  const collective = ranks > 1 ? recipe.collectiveBytes : 0;
  const texts = [
    `${formatBytes(recipe.contextBytes)} context`,
    ...(collective > 0 ? [`${formatBytes(collective)} collectives`] : []),
  ];
  let workspace = 0;
  if (layout.sharding === "full" && layout.dataParallel > 1) {
    const largest = Math.max(
      architecture.text.vocabularySize * architecture.text.hiddenSize,
      parts.counts.decoderLinears / architecture.text.layers,
    );
    const share = Math.min(1, parts.counts.total / gathered.liveParameters);
    workspace = 4 * largest + 2 * share * (gathered.liveParameters + gathered.bucketParameters);
    texts.push(`${formatBytes(workspace)} gathered layers and buckets`);
  }
  return {
    name: "runtime",
    sizeBytes: Math.ceil(recipe.contextBytes + collective + workspace + copies.sizeBytes),
    formula: texts.join(" + ") + copies.formula,
  };
}

function round(value: number): number {
  return Number(value.toFixed(2));
}
