/** What the reference drops. Brackets are not among it: its list has them in capitals and it compares small letters. */
const dropped = new Set(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"]);

const brackets: Readonly<Record<string, string>> = {
  "(": "-lrb-",
  ")": "-rrb-",
  "[": "-lsb-",
  "]": "-rsb-",
  "{": "-lcb-",
  "}": "-rcb-",
};

const fractions: Readonly<Record<string, string>> = { "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3" };
const currencies: Readonly<Record<string, string>> = { "€": "$", "£": "#" };

/** Words that are two tokens: where the second begins. */
const joined: Readonly<Record<string, number>> = {
  cannot: 3,
  gonna: 3,
  gotta: 3,
  wanna: 3,
  gimme: 3,
  lemme: 3,
  "'tis": 2,
  "'twas": 2,
  "more'n": 4,
};

const abbreviations =
  "mr mrs ms messrs dr prof st sr jr sen rep gov gen col sgt capt lt rev hon etc vs inc co corp ltd bros ave blvd rd " +
  "jan feb mar apr jun jul aug sep sept oct nov dec est dept mt";
const clitic = "'(?:s|m|d|ll|re|ve)";
const letter = String.raw`[\p{L}\p{M}]`;
const wordPart = String.raw`[\p{L}\p{M}\p{N}]+`;

/** What a token can be; the first that fits wins. */
const token = new RegExp(
  [
    String.raw`https?://[^\s<>"]+`,
    String.raw`[\w.+-]+@[\w-]+(?:\.[\w-]+)+`,
    String.raw`<\/?\p{L}[^\s<>]*>`,
    String.raw`'\d\ds(?!${wordPart})`,
    // u.s., ph.d., a single initial
    String.raw`${letter}(?:\.${letter})+\.?(?!${letter})`,
    String.raw`ph\.d\.`,
    String.raw`(?<![\p{L}\p{N}'-])\p{L}\.(?=\s|$)`,
    String.raw`(?:${abbreviations.replaceAll(" ", "|")})\.(?!\p{L})`,
    String.raw`nos?\.(?=\s*\d)`,
    // dates, times, ratios, fractions
    String.raw`\d{4}-\d{1,2}-\d{1,2}|\d{1,2}[/-]\d{1,2}[/-]\d{2,4}`,
    String.raw`\d+(?::\d+)+`,
    String.raw`\d+/\d+`,
    // 1,000.5 and 2.0.1, with what a hyphen adds: 3.5-inch
    String.raw`(?<![\p{L}\p{N}])[-+]?(?:\d+(?:[.,]\d+)+|\.\d+)(?:-${wordPart})*`,
    String.raw`(?<![\p{L}\p{N}])[-+]\d+(?![\p{L}\p{N}])`,
    // words: clitics are split off, o'brien, c++ and red/blue stay whole
    String.raw`(?:ca|wo|sha|ai|does|do|did|is|are|was|were|have|has|had|would|could|should|must|might|need)(?=n't(?!\p{L}))`,
    String.raw`n't(?!\p{L})|${clitic}(?![\p{L}\p{N}])`,
    String.raw`c\+\+`,
    String.raw`(?:cannot|gonna|gotta|wanna|gimme|lemme|'tis|'twas|more'n)(?![\p{L}\p{N}])`,
    String.raw`y'(?=all)|'n'`,
    String.raw`(?:[ldo]'(?=\p{L}))?${wordPart}(?:(?:[-/]|\.(?=\p{L}{2}))(?!\s)${wordPart}|'(?!(?:s|m|d|ll|re|ve)(?!\p{L}))(?=clock)${wordPart})*`,
    String.raw`\.\.+|…|--+|[–—]|[!?]+`,
    String.raw`\S`,
  ].join("|"),
  "giu",
);

/**
 * Lower-case tokens without punctuation, for BLEU, ROUGE-L and CIDEr-D, as the reference makes them: the Java program
 * PTBTokenizer splits, then pycocoevalcap's list of marks is dropped. Compared with that program's own output on the
 * captions of `test/golden/captions`; text that mixes numbers, letters and marks (`#A-17/3`) can still differ.
 *
 * Source: pycocoevalcap `tokenizer/ptbtokenizer.py`; Stanford CoreNLP 3.4.1.
 */
export function tokeniseCaption(text: string): string[] {
  const plain = text
    .replaceAll(/[‘’]/g, "'")
    .replaceAll(/[“”]/g, '"')
    .replaceAll(/[½¼¾⅓⅔€£]/g, (mark) => fractions[mark] ?? currencies[mark] ?? mark);
  return (plain.match(token) ?? []).flatMap(written).filter((word) => !dropped.has(word) && word !== '"');
}

/** A found token as the reference writes it. */
function written(found: string): string[] {
  const word = found.toLowerCase();
  const secondAt = joined[word];
  if (secondAt !== undefined) return [word.slice(0, secondAt), word.slice(secondAt)];
  if (/^(?:\.\.+|…)$/.test(word)) return ["..."];
  if (/^(?:--+|[–—])$/.test(word)) return ["--"];
  return [brackets[word] ?? word];
}
