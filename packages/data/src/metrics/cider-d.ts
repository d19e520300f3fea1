import { countNgrams, ngramLength, type CorpusScore, type TokenisedSample } from "./ngrams.ts";

const longest = 4;
const sigma = 6;

interface Vector {
  /** Per n-gram length: weight of each n-gram. */
  readonly weights: readonly Map<string, number>[];
  readonly norms: readonly number[];
  /** Number of bigrams: the reference code measures length there. */
  readonly length: number;
}

/**
 * CIDEr-D, 0..10: tf-idf weighted n-gram overlap (n = 1..4) with clipping and a Gaussian length penalty (σ = 6), the mean
 * over n-gram lengths and references, times ten. Document frequencies come from the references of these samples, so one
 * sample alone always scores 0, and scores of different sets are not comparable.
 *
 * Source: pycocoevalcap `cider/cider_scorer.py` (`df_mode="corpus"`); its length, taken from bigrams, is kept.
 */
export function ciderD(samples: readonly TokenisedSample[]): CorpusScore {
  const documentFrequency = new Map<string, number>();
  const counted = samples.map(({ answer, references }) => {
    const referenceCounts = references.map((reference) => countNgrams(reference, longest));
    for (const ngram of new Set(referenceCounts.flatMap((counts) => [...counts.keys()]))) {
      documentFrequency.set(ngram, (documentFrequency.get(ngram) ?? 0) + 1);
    }
    return { answer: countNgrams(answer, longest), references: referenceCounts };
  });
  const logOfSamples = Math.log(samples.length);
  const vectorOf = (counts: Map<string, number>): Vector => weigh(counts, documentFrequency, logOfSamples);
  const perSample = counted.map(({ answer, references }) => {
    const answerVector = vectorOf(answer);
    const sum = references.reduce((total, reference) => total + similarity(answerVector, vectorOf(reference)), 0);
    return references.length === 0 ? 0 : (10 * sum) / references.length;
  });
  return { score: perSample.reduce((sum, value) => sum + value, 0) / Math.max(1, perSample.length), perSample };
}

function weigh(counts: Map<string, number>, documentFrequency: Map<string, number>, logOfSamples: number): Vector {
  const weights = Array.from({ length: longest }, () => new Map<string, number>());
  const squares = [0, 0, 0, 0];
  let length = 0;
  for (const [ngram, count] of counts) {
    const index = ngramLength(ngram) - 1;
    const weight = count * (logOfSamples - Math.log(Math.max(1, documentFrequency.get(ngram) ?? 0)));
    weights[index]?.set(ngram, weight);
    squares[index] = (squares[index] ?? 0) + weight ** 2;
    if (index === 1) length += count;
  }
  return { weights, norms: squares.map(Math.sqrt), length };
}

/** Mean over n-gram lengths. */
function similarity(answer: Vector, reference: Vector): number {
  const penalty = Math.exp(-((answer.length - reference.length) ** 2) / (2 * sigma ** 2));
  let sum = 0;
  for (const [index, weights] of answer.weights.entries()) {
    let value = 0;
    for (const [ngram, weight] of weights) {
      const other = reference.weights[index]?.get(ngram) ?? 0;
      value += Math.min(weight, other) * other;
    }
    const norm = (answer.norms[index] ?? 0) * (reference.norms[index] ?? 0);
    sum += (norm === 0 ? value : value / norm) * penalty;
  }
  return sum / longest;
}
