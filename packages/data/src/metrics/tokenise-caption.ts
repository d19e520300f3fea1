const dropped = new Set([
  "''",
  "'",
  "``",
  "`",
  "-lrb-",
  "-rrb-",
  "-lcb-",
  "-rcb-",
  "(",
  ")",
  "{",
  "}",
  '"',
  ".",
  "?",
  "!",
  ",",
  ":",
  "-",
  "--",
  "...",
  ";",
]);

/**
 * Lower-case tokens without punctuation, for BLEU, ROUGE-L and CIDEr-D.
 *
 * The reference pipes text through the Java PTBTokenizer. This follows its rules for what short answers hold: clitics
 * split off (`it's` → `it 's`, `don't` → `do n't`), marks split from words and dropped, numbers, hyphenated words and
 * abbreviations such as `u.s.` kept whole. It is not the Java program: on text with URLs, emoticons or foreign quotes
 * tokens can differ. The metrics themselves take tokens and are checked against the reference's golden values.
 */
export function tokeniseCaption(text: string): string[] {
  const spaced = text
    .toLowerCase()
    .replaceAll(/[‘’]/g, "'")
    .replaceAll(/["“”(){}[\];:?!…]|\.\.\.|--+/g, " ")
    .replaceAll(/,(?!\d)|(?<!\d),/g, " ")
    .replaceAll(/n't\b/g, " n't")
    .replaceAll(/(?<=\w)'(s|m|d|ll|re|ve)\b/g, " '$1");
  return spaced
    .split(/\s+/)
    .map((word) => (isAbbreviation(word) ? word : word.replace(/\.+$/, "")))
    .map((word) => (/^'(?:s|m|d|ll|re|ve)$/.test(word) ? word : word.replaceAll(/^'+|'+$/g, "")))
    .filter((word) => word !== "" && !dropped.has(word));
}

function isAbbreviation(word: string): boolean {
  return /^(?:\p{L}\.){2,}$/u.test(word);
}
