/**
 * Splits text before merging: words with their leading space, numbers of up to three digits, runs of other signs.
 * As Qwen's expression, except that numbers keep up to three digits, so that a coordinate of 0-1000 costs few tokens.
 */
const pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The characters that stand for the 256 bytes in byte-level vocabularies (GPT-2's table: printable bytes as they are). */
function byteCharacters(): string[] {
  const printable = (byte: number): boolean => (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

interface Word {
  symbols: string[];
  readonly count: number;
}

/**
 * Learns a byte-level BPE vocabulary and answers it as the object of a `tokenizer.json`.
 *
 * @param texts           the corpus
 * @param vocabularySize  bytes, merges and special tokens together; fewer when the corpus has no more pairs
 * @param specialTokens   get the ids after the merges, in order
 * Source: Sennrich et al. 2016 (arXiv 1508.07909), algorithm 1; ties are broken by the pair's text, so that the result is
 * the same everywhere.
 */
export function trainByteLevelBpe(texts: Iterable<string>, vocabularySize: number, specialTokens: readonly string[]): object {
  const characters = byteCharacters();
  const words = countWords(texts, characters);
  const vocabulary = [...characters].sort();
  const merges: [string, string][] = [];
  while (vocabulary.length + specialTokens.length < vocabularySize) {
    const pair = mostFrequentPair(words);
    if (!pair) break;
    merges.push(pair);
    vocabulary.push(pair[0] + pair[1]);
    for (const word of words) word.symbols = mergePair(word.symbols, pair);
  }
  const unique = [...new Set(vocabulary)];
  return tokenizerFile(unique, merges, specialTokens);
}

function countWords(texts: Iterable<string>, characters: readonly string[]): Word[] {
  const expression = new RegExp(pattern.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'[sSdDmMtT]|'(?:[rR][eE]|[vV][eE]|[lL][lL])"), "gu");
  const counts = new Map<string, number>();
  for (const text of texts) for (const [piece] of text.matchAll(expression)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  return [...counts].map(([piece, count]) => ({ symbols: Array.from(Buffer.from(piece), (byte) => characters[byte] as string), count }));
}

function mostFrequentPair(words: readonly Word[]): [string, string] | null {
  const counts = new Map<string, { pair: [string, string]; count: number }>();
  for (const { symbols, count } of words) {
    for (let index = 0; index + 1 < symbols.length; index++) {
      const pair: [string, string] = [symbols[index] as string, symbols[index + 1] as string];
      const key = pair.join(" ");
      const known = counts.get(key);
      if (known) known.count += count;
      else counts.set(key, { pair, count });
    }
  }
  let best: { key: string; pair: [string, string]; count: number } | null = null;
  for (const [key, { pair, count }] of counts) if (!best || count > best.count || (count === best.count && key < best.key)) best = { key, pair, count };
  return best && best.count > 1 ? best.pair : null;
}

function mergePair(symbols: readonly string[], [left, right]: readonly [string, string]): string[] {
  const merged: string[] = [];
  for (let index = 0; index < symbols.length; index++) {
    if (symbols[index] === left && symbols[index + 1] === right) {
      merged.push(left + right);
      index++;
    } else merged.push(symbols[index] as string);
  }
  return merged;
}

function tokenizerFile(vocabulary: readonly string[], merges: readonly [string, string][], specialTokens: readonly string[]): object {
  const added = specialTokens.map((content, index) => ({ id: vocabulary.length + index, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }));
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
