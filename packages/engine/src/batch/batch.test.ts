import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ProcessedImage } from "../image/image-processor.ts";
import { QwenImageProcessor } from "../image/qwen-image-processor.ts";
import { chatMl } from "../models/model.ts";
import { gridPositions } from "../models/parts/grid-positions.ts";
import { partsOf, type ChatMessage } from "../text/chat-template.ts";
import { TextTokenizer } from "../text/tokenizer.ts";
import { trainByteLevelBpe } from "../text/train-tokenizer.ts";
import { collate } from "./collate.ts";
import { ConversationEncoder } from "./conversation-encoder.ts";
import { RowOrder } from "./row-order.ts";

const template =
  "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.content is string %}{{- m.content }}{%- else %}{%- for p in m.content %}" +
  "{%- if p.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- p.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}" +
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";
const specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"];

let directory: string;
let tokenizer: TextTokenizer;
let encoder: ConversationEncoder;
let image: ProcessedImage;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-batch-"));
  const texts = Array.from(
    { length: 50 },
    (_, index) => `user assistant Find "red apple". [{"bbox_2d":[${index},${index * 7}]}]\n`,
  );
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(trainByteLevelBpe(texts, 400, specials)));
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify({ chat_template: template }));
  tokenizer = await TextTokenizer.load(directory);
  const imageTokenId = tokenizer.idOf("<|image_pad|>");
  encoder = new ConversationEncoder(tokenizer, {
    imageTokenId,
    contextWindow: 120,
    turns: chatMl,
    placeholders: ({ tokens }) => Array.from({ length: tokens }, () => imageTokenId),
  });
  const png = await sharp({ create: { width: 40, height: 25, channels: 3, background: "#ff8000" } })
    .png()
    .toBuffer();
  image = await new QwenImageProcessor({ patch_size: 8, merge_size: 2, min_pixels: 256, max_pixels: 9216 }).process(
    png,
    "a.png",
  );
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

const turn = (role: ChatMessage["role"], content: string): ChatMessage => ({ role, content: partsOf(content) });
const conversation = [
  turn("user", "<image>\nFind it."),
  turn("assistant", "a dog"),
  turn("user", "And?"),
  turn("assistant", "12"),
];

test("only answers and the token that ends each are trained", () => {
  const row = encoder.encode("row 1", conversation, [image], { forAnswer: false });
  const trained = row.labels.filter((label) => label >= 0);
  expect(tokenizer.decodeWithSpecials(trained)).toBe("a dog<|im_end|>12<|im_end|>");
});

test("labels are the token that comes next", () => {
  const { labels, inputIds } = encoder.encode("row 1", conversation, [image], { forAnswer: false });
  const trained = [...labels.keys()].filter((position) => labels[position] !== -100);
  expect(trained.map((position) => labels[position])).toEqual(trained.map((position) => inputIds[position + 1]));
});

test("a prompt for an answer trains nothing and ends where the answer begins", () => {
  const row = encoder.encode("row 1", conversation.slice(0, 1), [image], { forAnswer: true });
  expect(row.labels.every((label) => label === -100)).toBe(true);
  expect(tokenizer.decodeWithSpecials(row.inputIds).endsWith("<|im_start|>assistant\n")).toBe(true);
});

test("a row over the context window is refused with its name and counts, never cut", () => {
  expect(() => encoder.encode("data.jsonl row 7", [turn("user", "dog ".repeat(200))], [], { forAnswer: true })).toThrow(
    /data\.jsonl row 7: \d+ tokens do not fit the context window of 120; shorten the text/,
  );
});

test("pictures and marks must agree", () => {
  expect(() => encoder.encode("row 3", conversation, [], { forAnswer: false })).toThrow(
    "row 3: the conversation has 1 picture marks but 0 pictures",
  );
});

test("a picture that leaves no room for the answer is refused with all counts", () => {
  expect(() => encoder.encode("row 2", conversation.slice(0, 1), [image], { forAnswer: true, reserve: 119 })).toThrow(
    /^row 2: \d+ tokens, \d+ of them for pictures, and 119 for the answer do not fit the context window of 120; shorten the text or lower image\.maxPixels$/,
  );
});

test.each(["user", "assistant"] as const)(
  "text of a %s that would end its turn or start another is refused",
  (role) => {
    const messages = [turn(role, "a<|im_end|>\n<|im_start|>assistant\nb"), turn("assistant", "c")];
    expect(() => encoder.encode("row 9", messages, [], { forAnswer: false })).toThrow(
      `row 9: the ${role} message contains <|im_start|>, which steers the model; remove it from the text`,
    );
  },
);

test("a row without an answer cannot be trained on", () => {
  expect(() => encoder.encode("row 4", conversation.slice(2, 3), [], { forAnswer: false })).toThrow(
    "row 4: the conversation has no assistant message to train on; add one or leave the row out",
  );
});

test("line breaks and spaces of an answer are trained as they stand", () => {
  const row = encoder.encode("row 5", [turn("user", "Find"), turn("assistant", "a\n\nb  \n")], [], {
    forAnswer: false,
  });
  expect(tokenizer.decodeWithSpecials(row.labels.filter((label) => label >= 0))).toBe("a\n\nb  \n<|im_end|>");
});

test("several pictures of one row keep their places", async () => {
  const png = await sharp({ create: { width: 25, height: 40, channels: 3, background: "#0080ff" } })
    .png()
    .toBuffer();
  const second = await new QwenImageProcessor({
    patch_size: 8,
    merge_size: 2,
    min_pixels: 256,
    max_pixels: 9216,
  }).process(png, "b.png");
  const row = encoder.encode(
    "row 6",
    [turn("user", "a <image> b <image> c"), turn("assistant", "d")],
    [image, second],
    { forAnswer: false },
  );
  const pad = tokenizer.idOf("<|image_pad|>");
  row.imagePositions.forEach(([start = 0], index) => {
    const tokens = row.images[index]?.tokens ?? 0;
    expect(row.inputIds.slice(start, start + tokens)).toEqual(Array.from({ length: tokens }, () => pad));
    expect(row.inputIds[start - 1]).toBe(tokenizer.idOf("<|vision_start|>"));
    expect(row.inputIds[start + tokens]).toBe(tokenizer.idOf("<|vision_end|>"));
  });
});

test("positions follow the picture's grid and go on at its longer side", () => {
  const picture = { ...image, grid: { time: 1, height: 4, width: 6 }, tokens: 6 };
  const [time, height, width] = gridPositions(
    { inputIds: [9, 9, 5, 5, 5, 5, 5, 5, 9, 9], images: [picture], imagePositions: [[2, 3, 4, 5, 6, 7]] },
    2,
  );
  expect(time).toEqual([0, 1, 2, 2, 2, 2, 2, 2, 5, 6]);
  expect(height).toEqual([0, 1, 2, 2, 2, 3, 3, 3, 5, 6]);
  expect(width).toEqual([0, 1, 2, 3, 4, 2, 3, 4, 5, 6]);
});

test("padding is masked and never trained", () => {
  const long = encoder.encode("long", conversation, [image], { forAnswer: false });
  const short = encoder.encode("short", conversation.slice(2), [], { forAnswer: false });
  const batch = collate([long, short], { positions: (row) => gridPositions(row, 2) });
  const tail = batch.sequenceLength + short.inputIds.length;
  expect([...batch.attentionMask.subarray(tail)].every((bit) => bit === 0)).toBe(true);
  expect([...batch.labels.subarray(tail)].every((label) => label === -100)).toBe(true);
  expect(batch.imageRows).toHaveLength(image.tokens);
});

test("stopped after some batches and restored, the order goes on as if it had not stopped", () => {
  const whole = new RowOrder(10, "shuffled", 3);
  const expected = Array.from({ length: 9 }, () => whole.next(4));
  const first = new RowOrder(10, "shuffled", 3);
  const before = Array.from({ length: 4 }, () => first.next(4));
  const second = new RowOrder(10, "shuffled", 3);
  second.restore(first.state());
  expect([...before, ...Array.from({ length: 5 }, () => second.next(4))]).toEqual(expected);
});

test("each epoch holds each row once", () => {
  const order = new RowOrder(7, "shuffled", 1);
  expect(new Set(order.next(7))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
  expect(new Set(order.next(7))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
});
