import type { Architecture, Bridge, TextDecoder, VisionTower } from "./architecture.ts";

/** A linear layer of the decoder that LoRA can target and that a quantized base stores in few bits. */
export interface DecoderLinear {
  /** Leaf name as in the checkpoint (`q_proj`, `in_proj_qkv`, …). */
  readonly name: string;
  readonly inputSize: number;
  readonly outputSize: number;
  /** Layers that have it. */
  readonly count: number;
}

/** Parameters of a model by part. Tied embeddings are counted once, in `embeddings`. */
export interface ParameterCounts {
  readonly embeddings: number;
  readonly head: number;
  /** Weights of the decoder's linear layers, without biases. */
  readonly decoderLinears: number;
  /** Norms, biases, convolutions and other small tensors of the decoder. */
  readonly decoderOther: number;
  readonly vision: number;
  readonly bridge: number;
  readonly total: number;
}

/** Number of decoder layers that are full attention; the rest are gated DeltaNet. */
export function fullAttentionLayers(text: TextDecoder): number {
  return text.linearAttention === null
    ? text.layers
    : Math.floor(text.layers / text.linearAttention.fullAttentionInterval);
}

/** Every linear layer of the decoder (not embeddings, not the output head), as the checkpoint names it. */
export function decoderLinears(text: TextDecoder): DecoderLinear[] {
  const full = fullAttentionLayers(text);
  const queryWidth = text.heads * text.headSize;
  const keyValueWidth = text.keyValueHeads * text.headSize;
  const hidden = text.hiddenSize;
  const linear = (name: string, inputSize: number, outputSize: number, count: number): DecoderLinear => ({
    name,
    inputSize,
    outputSize,
    count,
  });
  const attention = [
    linear("q_proj", hidden, queryWidth * (text.outputGate ? 2 : 1), full),
    linear("k_proj", hidden, keyValueWidth, full),
    linear("v_proj", hidden, keyValueWidth, full),
    linear("o_proj", queryWidth, hidden, full),
  ];
  const mlp = [
    linear("gate_proj", hidden, text.intermediateSize, text.layers),
    linear("up_proj", hidden, text.intermediateSize, text.layers),
    linear("down_proj", text.intermediateSize, hidden, text.layers),
  ];
  if (text.linearAttention === null) return [...attention, ...mlp];
  const delta = text.linearAttention;
  const keyWidth = delta.keyHeads * delta.keyHeadSize;
  const valueWidth = delta.valueHeads * delta.valueHeadSize;
  const count = text.layers - full;
  return [
    ...attention,
    linear("in_proj_qkv", hidden, 2 * keyWidth + valueWidth, count),
    linear("in_proj_z", hidden, valueWidth, count),
    linear("in_proj_a", hidden, delta.valueHeads, count),
    linear("in_proj_b", hidden, delta.valueHeads, count),
    linear("out_proj", valueWidth, hidden, count),
    ...mlp,
  ];
}

/** Parameters of a model by part, computed from its architecture. */
export function countParameters(architecture: Architecture): ParameterCounts {
  const { text, vision, bridge } = architecture;
  const head = text.vocabularySize * text.hiddenSize;
  const parts = {
    embeddings: head + (text.furtherEmbeddings ?? 0) * text.hiddenSize,
    head: text.tiedEmbeddings ? 0 : head,
    decoderLinears: sum(decoderLinears(text).map((layer) => layer.inputSize * layer.outputSize * layer.count)),
    decoderOther: decoderOther(text),
    vision: vision === null ? 0 : visionParameters(vision),
    bridge: bridge === null ? 0 : bridgeParameters(bridge),
  };
  return { ...parts, total: sum(Object.values(parts)) };
}

/** Trainable parameters of LoRA adapters: Σ rank·(in + out) over the targeted layers. */
export function loraParameters(text: TextDecoder, rank: number, targets: "all-linear" | readonly string[]): number {
  const chosen = decoderLinears(text).filter((layer) => targets === "all-linear" || targets.includes(layer.name));
  return sum(chosen.map((layer) => rank * (layer.inputSize + layer.outputSize) * layer.count));
}

/** Parameters of LoRA adapters on the four or five linear layers of every vision block (some other stacks train these too). */
export function visionLoraParameters(vision: VisionTower, rank: number): number {
  const { hiddenSize: hidden, intermediateSize: mlp } = vision;
  const queryKeyValue = hidden + 3 * hidden;
  const projection = 2 * hidden;
  const feedForward = (vision.gatedMlp ? 3 : 2) * (hidden + mlp);
  return rank * vision.layers * (queryKeyValue + projection + feedForward);
}

function decoderOther(text: TextDecoder): number {
  const full = fullAttentionLayers(text);
  const biases = text.queryKeyValueBias ? full * (text.heads + 2 * text.keyValueHeads) * text.headSize : 0;
  const headNorms = text.queryKeyNorm ? full * 2 * text.headSize : 0;
  const looking = (text.crossAttentionLayers ?? 0) * (2 * text.headSize + 2);
  const norms = ((text.branchNorms ? 4 : 2) * text.layers + 1) * text.hiddenSize + looking;
  if (text.linearAttention === null) return biases + headNorms + norms;
  const delta = text.linearAttention;
  const channels = 2 * delta.keyHeads * delta.keyHeadSize + delta.valueHeads * delta.valueHeadSize;
  const perLayer = channels * delta.convolutionKernel + 2 * delta.valueHeads + delta.valueHeadSize;
  return biases + headNorms + norms + (text.layers - full) * perLayer;
}

function visionParameters(vision: VisionTower): number {
  const { hiddenSize: hidden, intermediateSize: mlp } = vision;
  const normWidth = vision.norm === "rms" ? hidden : 2 * hidden;
  const attention =
    4 * hidden * hidden +
    (vision.queryKeyValueBias === false ? 0 : 3 * hidden) +
    (vision.outputBias === false ? 0 : hidden) +
    (vision.queryKeyNorm ? 2 * hidden : 0);
  const feedForward = vision.gatedMlp ? 3 * hidden * mlp + 2 * mlp + hidden : 2 * hidden * mlp + mlp + hidden;
  const block = attention + feedForward + 2 * normWidth + (vision.layerScale ? 2 * hidden : 0);
  const patch = vision.patchValues * hidden + (vision.patchBias ? hidden : 0);
  const positions = vision.positionRows * hidden + (vision.classToken ? hidden : 0);
  return (
    vision.layers * block +
    patch +
    positions +
    (vision.otherParameters ?? 0) +
    (Number(vision.finalNorm) + Number(vision.firstNorm ?? false)) * normWidth
  );
}

function bridgeParameters(bridge: Bridge): number {
  return sum(
    bridge.blocks.map(
      ({ normParameters, linears, biases }) =>
        normParameters + sum(linears.map(([input, output]) => input * output + (biases === false ? 0 : output))),
    ),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
