/** How often each n-gram of lengths 1 to `longest` occurs; tokens of a key are joined by a space. */
export function countNgrams(tokens: readonly string[], longest: number): Map<string, number> {
  const counts = new Map<string, number>();
  for (let length = 1; length <= longest; length++) {
    for (let start = 0; start + length <= tokens.length; start++) {
      const ngram = tokens.slice(start, start + length).join(" ");
      counts.set(ngram, (counts.get(ngram) ?? 0) + 1);
    }
  }
  return counts;
}

/** Length of an n-gram key of `countNgrams`. */
export function ngramLength(ngram: string): number {
  return ngram.split(" ").length;
}

/** One answer and its references, as tokens. */
export interface TokenisedSample {
  readonly answer: readonly string[];
  /** At least one. */
  readonly references: readonly (readonly string[])[];
}

/** A corpus-level score and one score per sample, in order. */
export interface CorpusScore {
  readonly score: number;
  readonly perSample: readonly number[];
}
