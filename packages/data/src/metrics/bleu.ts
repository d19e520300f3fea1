import { countNgrams, ngramLength, type CorpusScore, type TokenisedSample } from "./ngrams.ts";
import { everyRow, type PreparedMetric } from "./prepared-metric.ts";

const longest = 4;
const tiny = 1e-15;
const small = 1e-9;

interface Counts {
  answerLength: number;
  referenceLength: number;
  readonly guessed: number[];
  readonly correct: number[];
}

/**
 * BLEU-1 to BLEU-4, 0..1: corpus level (counts are pooled over samples, no smoothing), n-grams clipped by the reference
 * that holds most of them, the reference length closest to the answer's. The per-sample values are the same formula on
 * one sample.
 *
 * Source: pycocoevalcap `bleu/bleu_scorer.py` with option `closest`, whose 1e-15 and 1e-9 are kept.
 */
export function bleu(samples: readonly TokenisedSample[]): readonly CorpusScore[] {
  const rows = everyRow(samples.length);
  return prepareBleu(samples).map(({ perSample, scoreOf }) => ({
    score: samples.length === 0 ? 0 : scoreOf(rows),
    perSample,
  }));
}

/** BLEU-1 to BLEU-4 of any choice of these samples. */
export function prepareBleu(samples: readonly TokenisedSample[]): readonly PreparedMetric[] {
  const each = samples.map(countSample);
  const sampleScores = each.map(scoresOf);
  return Array.from({ length: longest }, (_, index) => ({
    perSample: sampleScores.map((scores) => scores[index] ?? 0),
    scoreOf: (rows) => scoresOf(pool(each, rows))[index] ?? 0,
  }));
}

function pool(each: readonly Counts[], rows: Int32Array): Counts {
  const total: Counts = { answerLength: 0, referenceLength: 0, guessed: [0, 0, 0, 0], correct: [0, 0, 0, 0] };
  for (const row of rows) {
    const counts = each[row];
    if (!counts) continue;
    total.answerLength += counts.answerLength;
    total.referenceLength += counts.referenceLength;
    for (let index = 0; index < longest; index++) {
      total.guessed[index] = (total.guessed[index] ?? 0) + (counts.guessed[index] ?? 0);
      total.correct[index] = (total.correct[index] ?? 0) + (counts.correct[index] ?? 0);
    }
  }
  return total;
}

function countSample({ answer, references }: TokenisedSample): Counts {
  const most = new Map<string, number>();
  for (const reference of references) {
    for (const [ngram, count] of countNgrams(reference, longest))
      most.set(ngram, Math.max(count, most.get(ngram) ?? 0));
  }
  const correct = [0, 0, 0, 0];
  for (const [ngram, count] of countNgrams(answer, longest)) {
    const index = ngramLength(ngram) - 1;
    correct[index] = (correct[index] ?? 0) + Math.min(count, most.get(ngram) ?? 0);
  }
  return {
    answerLength: answer.length,
    referenceLength: closestLength(answer.length, references),
    guessed: [0, 1, 2, 3].map((index) => Math.max(0, answer.length - index)),
    correct,
  };
}

/** The reference length nearest to the answer's; of two equally near ones the shorter. */
function closestLength(length: number, references: readonly (readonly string[])[]): number {
  return references
    .map((reference) => reference.length)
    .reduce((best, candidate) => {
      const [distance, bestDistance] = [Math.abs(candidate - length), Math.abs(best - length)];
      return distance < bestDistance || (distance === bestDistance && candidate < best) ? candidate : best;
    });
}

function scoresOf(counts: Counts): number[] {
  const ratio = (counts.answerLength + tiny) / (counts.referenceLength + small);
  const brevityPenalty = ratio < 1 ? Math.exp(1 - 1 / ratio) : 1;
  let product = 1;
  return counts.correct.map((correct, index) => {
    product *= (correct + tiny) / ((counts.guessed[index] ?? 0) + small);
    return product ** (1 / (index + 1)) * brevityPenalty;
  });
}
