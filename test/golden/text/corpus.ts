/** What the golden tokenizer learns from: names, questions, boxes, and some text outside ASCII. */
export const corpus: readonly string[] = [
  ...Array.from(
    { length: 101 },
    (_, index) =>
      `[{"bbox_2d":[${index * 10},${1000 - index * 10},${(index * 37) % 1001},${(index * 91) % 1001}],"label":"red apple"}]`,
  ),
  ...["red apple", "green frog", "umbrella with rain drops", "sailing boat", "birthday cake"].flatMap((name) => [
    `Is there a ${name} in the picture? Answer yes or no.`,
    `Find every ${name}. Answer with JSON.\n`,
    `It's a ${name}, isn't it?`,
  ]),
  "Größe: 12,5 cm – naïve café, 東京の猫 🐱👩‍🚀 \n\n\tindented\r\n",
  "You look at one picture and answer in few words.",
];

export const specialTokens: readonly string[] = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|image_pad|>",
];

export const vocabularySize = 640;
