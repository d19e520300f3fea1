import { InvalidError } from "@drydock/kit";

/**
 * Splits text before merging: words with their leading space, numbers of up to three digits, runs of other signs.
 * As Qwen's expression, except that numbers keep up to three digits, so that a coordinate of 0-1000 costs few tokens.
 */
const pattern =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The same for JavaScript, whose expressions know no inline flags. */
const expression = new RegExp(
  pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'[sSdDmMtT]|'(?:[rR][eE]|[vV][eE]|[lL][lL])"),
  "gu",
);

/** The characters that stand for the 256 bytes in byte-level vocabularies (GPT-2's table: printable bytes as they are). */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

interface Word {
  symbols: string[];
  readonly count: number;
}

interface Pair {
  readonly left: string;
  readonly right: string;
  count: number;
  /** Words that hold the pair, or held it: merging looks again. */
  readonly words: Set<Word>;
}

/**
 * Learns a byte-level BPE vocabulary and answers it as the object of a `tokenizer.json`.
 *
 * @param texts           the corpus; special tokens in it are left out
 * @param vocabularySize  bytes, merges and special tokens together; fewer when the corpus has no more pairs
 * @param specialTokens   get the ids after the merges, in order
 * @throws InvalidError when the size leaves no room for the 256 bytes and the special tokens
 * Source: Sennrich et al. 2016 (arXiv 1508.07909), algorithm 1; ties are broken by the pair's text, so that the result is
 * the same everywhere.
 */
export function trainByteLevelBpe(
  texts: Iterable<string>,
  vocabularySize: number,
  specialTokens: readonly string[],
): object {
  const characters = byteCharacters();
  if (vocabularySize < characters.length + specialTokens.length)
    throw new InvalidError(
      "vocabulary_too_small",
      `a vocabulary of ${vocabularySize} is too small: bytes and special tokens alone are ${characters.length + specialTokens.length}`,
    );
  const pairs = new PairTable(countWords(texts, characters, specialTokens));
  // Two ways to merge can give the same piece; it counts once.
  const vocabulary = new Set([...characters].sort());
  const merges: [string, string][] = [];
  while (vocabulary.size + specialTokens.length < vocabularySize) {
    const pair = pairs.mostFrequent();
    if (!pair) break;
    merges.push([pair.left, pair.right]);
    vocabulary.add(pair.left + pair.right);
    pairs.merge(pair);
  }
  return tokenizerFile([...vocabulary], merges, specialTokens);
}

function countWords(texts: Iterable<string>, characters: readonly string[], specialTokens: readonly string[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts)
    for (const part of splitAt(text.normalize("NFC"), specialTokens))
      for (const [piece] of part.matchAll(expression)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return [...counts].map(([piece, count]) => ({
    symbols: Array.from(Buffer.from(piece), (byte) => characters[byte] as string),
    count,
  }));
}

function splitAt(text: string, separators: readonly string[]): string[] {
  return separators.reduce((parts, separator) => parts.flatMap((part) => part.split(separator)), [text]);
}

/** Counts of all neighbouring symbols, kept up to date while words change. */
class PairTable {
  readonly #pairs = new Map<string, Pair>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.#count(word, 1);
  }

  /** The pair seen most often, at least twice; of equal ones the first by its text. */
  mostFrequent(): Pair | null {
    let best: Pair | null = null;
    for (const pair of this.#pairs.values())
      if (
        pair.count > 1 &&
        (!best || pair.count > best.count || (pair.count === best.count && comesBefore(pair, best)))
      )
        best = pair;
    return best;
  }

  merge(pair: Pair): void {
    for (const word of pair.words) {
      this.#count(word, -1);
      word.symbols = merged(word.symbols, pair);
      this.#count(word, 1);
    }
    this.#pairs.delete(keyOf(pair.left, pair.right));
  }

  #count(word: Word, sign: 1 | -1): void {
    for (let index = 0; index + 1 < word.symbols.length; index++) {
      const left = word.symbols[index] as string;
      const right = word.symbols[index + 1] as string;
      const key = keyOf(left, right);
      let pair = this.#pairs.get(key);
      if (!pair) this.#pairs.set(key, (pair = { left, right, count: 0, words: new Set() }));
      pair.count += sign * word.count;
      pair.words.add(word);
    }
  }
}

/** Byte characters have no space among them, so the key is unambiguous. */
function keyOf(left: string, right: string): string {
  return `${left} ${right}`;
}

function comesBefore(pair: Pair, other: Pair): boolean {
  return keyOf(pair.left, pair.right) < keyOf(other.left, other.right);
}

function merged(symbols: readonly string[], { left, right }: Pair): string[] {
  const result: string[] = [];
  for (let index = 0; index < symbols.length; index++) {
    if (symbols[index] === left && symbols[index + 1] === right) {
      result.push(left + right);
      index++;
    } else result.push(symbols[index] as string);
  }
  return result;
}

function tokenizerFile(
  vocabulary: readonly string[],
  merges: readonly [string, string][],
  specialTokens: readonly string[],
): object {
  const added = specialTokens.map((content, index) => ({
    id: vocabulary.length + index,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: { type: "NFC" },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
      ],
    },
    post_processor: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    decoder: { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
      merges,
    },
  };
}
