const punctuation = [
  ";",
  "/",
  "[",
  "]",
  '"',
  "{",
  "}",
  "(",
  ")",
  "=",
  "+",
  "\\",
  "_",
  "-",
  ">",
  "<",
  "@",
  "`",
  ",",
  "?",
  "!",
];

const numberWords: Readonly<Record<string, string>> = {
  none: "0",
  zero: "0",
  one: "1",
  two: "2",
  three: "3",
  four: "4",
  five: "5",
  six: "6",
  seven: "7",
  eight: "8",
  nine: "9",
  ten: "10",
};

const articles = new Set(["a", "an", "the"]);

/** Contractions that people write without their apostrophe. `id`, `ill`, `well` and their like are words of their own and stay. */
const contractions = new Map(
  (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's I'd've " +
    "I'm I've isn't it'd it'll let's ma'am mightn't might've mustn't must've needn't not've o'clock oughtn't shan't she'd've " +
    "she's should've shouldn't somebody'd somebody'll somebody's someone'd someone'll someone's something'd something'll that's " +
    "there'd there're there's they'd they'll they're they've 'twas wasn't we've weren't what'll what're what's what've when's " +
    "where'd where's where've who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've"
  )
    .split(" ")
    .map((word) => [word.replaceAll("'", "").toLowerCase(), word.toLowerCase()] as const),
);

/**
 * An answer as the VQA evaluation compares it: punctuation removed or made a space, lower case, number words zero to ten
 * as digits (`none` as 0), articles dropped, apostrophes of contractions put back.
 *
 * Source: `processPunctuation` and `processDigitArticle` of VQA `PythonEvaluationTools/vqaEvaluation/vqaEval.py`, its
 * misspelt look-behind kept: a period is removed unless a digit follows. The reference removes at most 32 periods of an
 * answer; here all are removed. Contractions here are lower case as everything else is (the reference writes `I'm`).
 */
export function normaliseAnswer(answer: string): string {
  return processDigitsAndArticles(processPunctuation(answer.replaceAll(/[\n\t]/g, " ").trim()));
}

function processPunctuation(text: string): string {
  const hasThousands = /\d,\d/.test(text);
  let out = text;
  for (const mark of punctuation) {
    const standsAside = text.includes(`${mark} `) || text.includes(` ${mark}`);
    out = out.replaceAll(mark, standsAside || hasThousands ? "" : " ");
  }
  return out.replaceAll(/\.(?!\d)/g, "");
}

function processDigitsAndArticles(text: string): string {
  return text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== "")
    .map((word) => (Object.hasOwn(numberWords, word) ? (numberWords[word] ?? word) : word))
    .filter((word) => !articles.has(word))
    .map((word) => contractions.get(word) ?? word)
    .join(" ");
}
