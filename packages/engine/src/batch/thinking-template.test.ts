import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chatMl } from "../models/model.ts";
import type { ChatMessage } from "../text/chat-template.ts";
import { TextTokenizer } from "../text/tokenizer.ts";
import { trainByteLevelBpe } from "../text/train-tokenizer.ts";
import { ConversationEncoder } from "./conversation-encoder.ts";

/*
 * The published rules of Qwen3.5's template, in our words: contents are trimmed; answers after the last question stand behind a block of
 * thoughts, empty where there are none, and earlier answers stand without one; a prompt ends in an open block, or in an empty one when
 * thinking is off.
 */
const template =
  "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}" +
  "{%- for m in messages %}{%- set text = m.content if m.content is string else m.content[0].text %}" +
  "{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}" +
  "{{- text | trim }}{{- '<|im_end|>\\n' }}{%- endfor %}" +
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- else %}{{- '<think>\\n' }}{%- endif %}{%- endif %}";
const specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<think>", "</think>"];

let directory: string;
let tokenizer: TextTokenizer;
let encoder: ConversationEncoder;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-thinking-"));
  const texts = Array.from({ length: 40 }, (_, index) => `user assistant What is it? a dog ${index}\n\n`);
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(trainByteLevelBpe(texts, 380, specials)));
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify({ chat_template: template }));
  tokenizer = await TextTokenizer.load(directory);
  encoder = new ConversationEncoder(tokenizer, {
    imageTokenId: tokenizer.idOf("<|image_pad|>"),
    contextWindow: 200,
    turns: chatMl,
    placeholders: () => [],
  });
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

const turn = (role: ChatMessage["role"], text: string): ChatMessage => ({ role, content: [{ type: "text", text }] });
const conversation = [
  turn("user", " What is it? "),
  turn("assistant", "a dog"),
  turn("user", "And?"),
  turn("assistant", " a cat\n"),
];

test("an empty block of thoughts is part of the prompt and not trained", () => {
  const { inputIds, labels } = encoder.encode("row", conversation, [], { forAnswer: false });
  expect(tokenizer.decodeWithSpecials(inputIds)).toContain("<think>\n\n</think>\n\na cat<|im_end|>");
  const trained = labels.filter((label) => label >= 0);
  expect(tokenizer.decodeWithSpecials(trained)).toBe("a dog<|im_end|>a cat<|im_end|>");
});

test("a question ends as the trained rows begin their answers: without thoughts", () => {
  const { inputIds } = encoder.encode("row", conversation.slice(0, 3), [], { forAnswer: true });
  expect(tokenizer.decodeWithSpecials(inputIds)).toBe(
    "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\na dog<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
  );
});
