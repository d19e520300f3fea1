import type { SeededRandom } from "../training/random.ts";

/** How the next token is chosen. Without `temperature` (or with 0) the most likely one is. */
export interface SamplingOptions {
  readonly temperature?: number;
  /** Keep only so many of the most likely tokens; 0 = all. */
  readonly topK?: number;
  /** Keep the most likely tokens whose probabilities reach this sum. */
  readonly topP?: number;
  /** Above 1: logits of tokens already there are made smaller (Keskar et al. 2019, arXiv 1909.05858, section 4.1). */
  readonly repetitionPenalty?: number;
  readonly seed?: number;
}

/** Index of the largest logit; the first of equals. */
export function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let index = 1; index < logits.length; index++)
    if ((logits[index] as number) > (logits[best] as number)) best = index;
  return best;
}

/**
 * Chooses a token.
 *
 * @param logits  `[V]`; left as they are
 * @param seen    tokens of the prompt and the answer so far
 */
export function chooseToken(
  logits: Float32Array,
  seen: readonly number[],
  options: SamplingOptions,
  random: SeededRandom,
): number {
  const penalised = penalise(logits, seen, options.repetitionPenalty ?? 1);
  const temperature = options.temperature ?? 0;
  if (temperature === 0) return mostLikely(penalised);
  const order = Array.from(penalised.keys()).sort((a, b) => (penalised[b] as number) - (penalised[a] as number));
  const kept = options.topK ? order.slice(0, options.topK) : order;
  const highest = penalised[kept[0] as number] as number;
  const weights = kept.map((token) => Math.exp(((penalised[token] as number) - highest) / temperature));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const limit = (options.topP ?? 1) * total;
  let cumulative = 0;
  const last = weights.findIndex((weight) => (cumulative += weight) >= limit);
  const count = last < 0 ? weights.length : last + 1;
  const mass = weights.slice(0, count).reduce((sum, weight) => sum + weight, 0);
  let point = random.uniform() * mass;
  for (let index = 0; index < count; index++) {
    point -= weights[index] as number;
    if (point < 0) return kept[index] as number;
  }
  return kept[count - 1] as number;
}

function penalise(logits: Float32Array, seen: readonly number[], penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const result = logits.slice();
  for (const token of new Set(seen)) {
    const value = result[token];
    if (value !== undefined) result[token] = value > 0 ? value / penalty : value * penalty;
  }
  return result;
}
