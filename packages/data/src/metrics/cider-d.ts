import { countNgrams, ngramLength, type CorpusScore, type TokenisedSample } from "./ngrams.ts";
import { everyRow, type PreparedMetric } from "./prepared-metric.ts";

const longest = 4;
const sigma = 6;

/** N-grams of one text: numbers of n-grams, how often each occurs, and its length (1 to 4). */
interface Text {
  readonly ngrams: Int32Array;
  readonly counts: Float64Array;
  readonly orders: Uint8Array;
  /** Number of bigrams: the reference code measures length there. */
  readonly length: number;
}

/** One answer against one reference. */
interface Pair {
  readonly reference: Text;
  /** For each n-gram of the answer, how often the reference holds it. */
  readonly countsInReference: Float64Array;
  /** Gaussian length penalty. */
  readonly penalty: number;
}

interface Row {
  readonly answer: Text;
  readonly pairs: readonly Pair[];
  /** N-grams that any reference holds, each once. */
  readonly documents: Int32Array;
}

/**
 * CIDEr-D, 0..10: tf-idf weighted n-gram overlap (n = 1..4) with clipping and a Gaussian length penalty (σ = 6), the mean
 * over n-gram lengths and references, times ten. Document frequencies come from the references of these samples, so one
 * sample alone always scores 0, and scores of different sets are not comparable.
 *
 * Source: pycocoevalcap `cider/cider_scorer.py` (`df_mode="corpus"`); its length, taken from bigrams, is kept.
 */
export function ciderD(samples: readonly TokenisedSample[]): CorpusScore {
  const { perSample, scoreOf } = prepareCiderD(samples);
  return { score: samples.length === 0 ? 0 : scoreOf(everyRow(samples.length)), perSample };
}

/**
 * CIDEr-D of any choice of these samples, document frequencies counted anew in each choice. The samples' own scores use the
 * frequencies of all.
 */
export function prepareCiderD(samples: readonly TokenisedSample[]): PreparedMetric {
  const numbers = new Map<string, number>();
  const rows = samples.map((sample) => prepareRow(sample, numbers));
  const frequency = new Float64Array(numbers.size);
  const countDocuments = (chosen: Int32Array): void => {
    frequency.fill(0);
    for (const row of chosen)
      for (const ngram of rows[row]?.documents ?? []) frequency[ngram] = (frequency[ngram] ?? 0) + 1;
  };
  const rarityOf = (chosen: Int32Array): Float64Array => {
    countDocuments(chosen);
    const logOfSamples = Math.log(chosen.length);
    return frequency.map((count) => logOfSamples - Math.log(Math.max(1, count)));
  };
  const rarityOfAll = rarityOf(everyRow(samples.length));
  return {
    perSample: rows.map((row) => scoreRow(row, rarityOfAll)),
    scoreOf: (chosen) => {
      const rarity = rarityOf(chosen);
      // A row that was drawn several times scores the same each time.
      const known = new Map<number, number>();
      let sum = 0;
      for (const index of chosen) {
        const row = rows[index];
        if (!row) continue;
        const score = known.get(index) ?? scoreRow(row, rarity);
        known.set(index, score);
        sum += score;
      }
      return sum / Math.max(1, chosen.length);
    },
  };
}

function prepareRow({ answer, references }: TokenisedSample, numbers: Map<string, number>): Row {
  const answerCounts = countNgrams(answer, longest);
  const answerText = toText(answerCounts, numbers);
  const documents = new Set<number>();
  const pairs = references.map((reference): Pair => {
    const counts = countNgrams(reference, longest);
    const text = toText(counts, numbers);
    for (const ngram of text.ngrams) documents.add(ngram);
    return {
      reference: text,
      countsInReference: Float64Array.from(answerCounts.keys(), (ngram) => counts.get(ngram) ?? 0),
      penalty: Math.exp(-((answerText.length - text.length) ** 2) / (2 * sigma ** 2)),
    };
  });
  return { answer: answerText, pairs, documents: Int32Array.from(documents) };
}

function toText(counts: ReadonlyMap<string, number>, numbers: Map<string, number>): Text {
  let length = 0;
  const orders = Uint8Array.from(counts.keys(), ngramLength);
  const ngrams = Int32Array.from(counts.keys(), (ngram) => {
    const number = numbers.get(ngram) ?? numbers.size;
    numbers.set(ngram, number);
    return number;
  });
  const values = Float64Array.from(counts.values());
  for (const [index, order] of orders.entries()) if (order === 2) length += values[index] ?? 0;
  return { ngrams, counts: values, orders, length };
}

function scoreRow({ answer, pairs }: Row, rarity: Float64Array): number {
  if (pairs.length === 0) return 0;
  const answerNorms = normsOf(answer, rarity);
  let sum = 0;
  for (const pair of pairs) sum += similarity(answer, answerNorms, pair, rarity);
  return (10 * sum) / pairs.length;
}

/** Per n-gram length. */
function normsOf({ ngrams, counts, orders }: Text, rarity: Float64Array): Float64Array {
  const squares = new Float64Array(longest);
  for (let index = 0; index < ngrams.length; index++) {
    const order = (orders[index] ?? 1) - 1;
    squares[order] = (squares[order] ?? 0) + ((counts[index] ?? 0) * (rarity[ngrams[index] ?? 0] ?? 0)) ** 2;
  }
  return squares.map(Math.sqrt);
}

/** Mean over n-gram lengths. */
function similarity(answer: Text, answerNorms: Float64Array, pair: Pair, rarity: Float64Array): number {
  const values = new Float64Array(longest);
  for (let index = 0; index < answer.ngrams.length; index++) {
    const weight = rarity[answer.ngrams[index] ?? 0] ?? 0;
    const order = (answer.orders[index] ?? 1) - 1;
    const other = (pair.countsInReference[index] ?? 0) * weight;
    values[order] = (values[order] ?? 0) + Math.min((answer.counts[index] ?? 0) * weight, other) * other;
  }
  const referenceNorms = normsOf(pair.reference, rarity);
  let sum = 0;
  for (const [order, value] of values.entries()) {
    const norm = (answerNorms[order] ?? 0) * (referenceNorms[order] ?? 0);
    sum += (norm === 0 ? value : value / norm) * pair.penalty;
  }
  return sum / longest;
}
