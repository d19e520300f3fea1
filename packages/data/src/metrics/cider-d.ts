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
  const rarity = new Float64Array(numbers.size);
  // log max(1, count): there are far more n-grams than counts.
  const logs = Float64Array.from({ length: samples.length + 1 }, (_, count) => Math.log(Math.max(1, count)));
  const countDocuments = (chosen: Int32Array): void => {
    frequency.fill(0);
    for (const row of chosen)
      for (const ngram of rows[row]?.documents ?? []) frequency[ngram] = (frequency[ngram] ?? 0) + 1;
  };
  const countRarity = (chosen: Int32Array): void => {
    countDocuments(chosen);
    const logOfSamples = Math.log(chosen.length);
    for (let ngram = 0; ngram < rarity.length; ngram++)
      rarity[ngram] = logOfSamples - (logs[frequency[ngram] ?? 0] ?? Math.log(frequency[ngram] ?? 1));
  };
  const known = new Float64Array(samples.length);
  countRarity(everyRow(samples.length));
  return {
    perSample: rows.map((row) => scoreRow(row, rarity)),
    scoreOf: (chosen) => {
      countRarity(chosen);
      // A row that was drawn several times scores the same each time.
      known.fill(Number.NaN);
      let sum = 0;
      for (const index of chosen) {
        const row = rows[index];
        if (!row) continue;
        let score = known[index] ?? Number.NaN;
        if (Number.isNaN(score)) known[index] = score = scoreRow(row, rarity);
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

/** Sums per n-gram length, one set for all calls: millions of rows are scored for one interval. */
const sums = {
  answer: new Float64Array(longest),
  reference: new Float64Array(longest),
  both: new Float64Array(longest),
};

function scoreRow({ answer, pairs }: Row, rarity: Float64Array): number {
  if (pairs.length === 0) return 0;
  sumSquares(answer, rarity, sums.answer);
  let sum = 0;
  for (const pair of pairs) sum += similarity(answer, pair, rarity);
  return (10 * sum) / pairs.length;
}

/** Squares of the weights, summed per n-gram length. */
function sumSquares({ ngrams, counts, orders }: Text, rarity: Float64Array, squares: Float64Array): void {
  squares.fill(0);
  for (let index = 0; index < ngrams.length; index++) {
    const order = (orders[index] ?? 1) - 1;
    const weight = (counts[index] ?? 0) * (rarity[ngrams[index] ?? 0] ?? 0);
    squares[order] = (squares[order] ?? 0) + weight * weight;
  }
}

/** Mean over n-gram lengths; `sums.answer` holds the answer's squares. */
function similarity(answer: Text, pair: Pair, rarity: Float64Array): number {
  sums.both.fill(0);
  for (let index = 0; index < answer.ngrams.length; index++) {
    const inReference = pair.countsInReference[index] ?? 0;
    if (inReference === 0) continue;
    const weight = rarity[answer.ngrams[index] ?? 0] ?? 0;
    const order = (answer.orders[index] ?? 1) - 1;
    const other = inReference * weight;
    sums.both[order] = (sums.both[order] ?? 0) + Math.min((answer.counts[index] ?? 0) * weight, other) * other;
  }
  sumSquares(pair.reference, rarity, sums.reference);
  let sum = 0;
  for (let order = 0; order < longest; order++) {
    const value = sums.both[order] ?? 0;
    const norm = Math.sqrt(sums.answer[order] ?? 0) * Math.sqrt(sums.reference[order] ?? 0);
    sum += (norm === 0 ? value : value / norm) * pair.penalty;
  }
  return sum / longest;
}
