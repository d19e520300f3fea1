import type { ModelBatch } from "../../batch/model-batch.ts";

/**
 * `[B, T]`: up to which key of its row each query sees. Pictures and prompt see each other in both directions, the answer sees
 * what stands before it.
 *
 * The answer begins with the first token that has a label; a row without labels is a prompt as a whole.
 */
export function prefixReach({ batchSize, sequenceLength, attentionMask, labels }: ModelBatch): Float32Array {
  const reach = new Float32Array(batchSize * sequenceLength);
  for (let row = 0; row < batchSize; row++) {
    const start = row * sequenceLength;
    const prefix = prefixLength(
      labels.subarray(start, start + sequenceLength),
      attentionMask.subarray(start, start + sequenceLength),
    );
    for (let token = 0; token < sequenceLength; token++) reach[start + token] = Math.max(prefix - 1, token);
  }
  return reach;
}

/** Labels stand where they are predicted: at the token before. */
function prefixLength(labels: Int32Array, attentionMask: Uint8Array): number {
  const first = labels.findIndex((label) => label >= 0);
  return first >= 0 ? first + 1 : attentionMask.reduce((sum, bit) => sum + bit, 0);
}
