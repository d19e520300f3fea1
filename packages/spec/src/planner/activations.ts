import type { TextDecoder, VisionTower } from "../catalogue/architecture.ts";

/** Chunk length of the gated delta rule; the recurrent state is kept once per chunk. */
const deltaChunk = 64;

/**
 * Values that the backward pass of one decoder layer needs per token, the attention matrix aside: inputs and outputs of
 * both norms (4H), queries, keys, values and the attention output, and gate, up and their product in the MLP (3M). For
 * gated DeltaNet the projections before and after the convolution, the chunk's matrices and its state take the
 * attention's place. The larger kind of layer counts.
 *
 * Korthikanti et al. 2022 (arXiv 2205.05198), section 4.1, counts the same tensors for one head width and a 4H MLP and
 * arrives at 34·H bytes in 16 bits; here the widths are the architecture's own.
 */
export function decoderLayerValues(text: TextDecoder): number {
  const queryWidth = text.heads * text.headSize;
  const attention = queryWidth * (text.outputGate ? 4 : 2) + 2 * text.keyValueHeads * text.headSize;
  const shared = 4 * text.hiddenSize + 3 * text.intermediateSize;
  return shared + Math.max(attention, text.linearAttention === null ? 0 : deltaValues(text.linearAttention));
}

function deltaValues(delta: NonNullable<TextDecoder["linearAttention"]>): number {
  const keyWidth = delta.keyHeads * delta.keyHeadSize;
  const valueWidth = delta.valueHeads * delta.valueHeadSize;
  const chunkMatrices = 4 * deltaChunk * delta.valueHeads;
  const states = (delta.valueHeads * delta.keyHeadSize * delta.valueHeadSize) / deltaChunk;
  // fp32 inside the rule: twice the values of a 16-bit tensor.
  return 2 * (2 * keyWidth + valueWidth) + 2 * valueWidth + 2 * (chunkMatrices + states);
}

/**
 * Bytes that the backward pass of one vision block needs per patch: norms 4D, query, key, value and output 4D, MLP 2–3
 * widths in the activation's own precision, and queries and keys around the rotation (8D) in fp32, as the towers compute
 * their rotary positions in fp32.
 */
export function visionBlockBytes(vision: VisionTower, activationBytes: number): number {
  return (
    activationBytes * (8 * vision.hiddenSize + (vision.gatedMlp ? 3 : 2) * vision.intermediateSize) +
    4 * 8 * vision.hiddenSize
  );
}

/** Bytes of explicit attention matrices: probabilities that stay, and what backward adds (scores, gradients of both). */
export const attentionMatrixBytes = { kept: 4, working: 12 } as const;
