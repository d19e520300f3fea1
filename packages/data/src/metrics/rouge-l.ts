import type { CorpusScore, TokenisedSample } from "./ngrams.ts";

const beta = 1.2;

/**
 * ROUGE-L, 0..1: from the longest common subsequence of tokens, the largest precision and the largest recall over the
 * references (each for itself), combined with β = 1.2; the mean over samples.
 *
 * Source: pycocoevalcap `rouge/rouge.py`. Other packages use β = 1 and stemming; their numbers differ.
 */
export function rougeL(samples: readonly TokenisedSample[]): CorpusScore {
  const perSample = samples.map(({ answer, references }) => {
    const common = references.map((reference) => longestCommonSubsequence(answer, reference));
    const precision = Math.max(0, ...common.map((length) => (answer.length === 0 ? 0 : length / answer.length)));
    const recall = Math.max(0, ...common.map((length, index) => length / Math.max(1, references[index]?.length ?? 1)));
    return precision === 0 || recall === 0
      ? 0
      : ((1 + beta ** 2) * precision * recall) / (recall + beta ** 2 * precision);
  });
  return { score: perSample.reduce((sum, value) => sum + value, 0) / Math.max(1, samples.length), perSample };
}

function longestCommonSubsequence(left: readonly string[], right: readonly string[]): number {
  let row = Array.from({ length: right.length + 1 }, () => 0);
  for (const token of left) {
    const next = [0];
    for (const [index, other] of right.entries()) {
      next.push(token === other ? (row[index] ?? 0) + 1 : Math.max(row[index + 1] ?? 0, next[index] ?? 0));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
