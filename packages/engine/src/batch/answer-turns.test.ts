import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { partsOf, type ChatMessage } from "../text/chat-template.ts";
import { TextTokenizer } from "../text/tokenizer.ts";
import { trainByteLevelBpe } from "../text/train-tokenizer.ts";
import { ConversationEncoder } from "./conversation-encoder.ts";

const specials = ["<s>", "</s>", "<image>", "<|end|>", "<ref>", "</ref>"];
const plain =
  "{% for m in messages %}{{ m.role.upper() + ': ' }}{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";
const ended =
  "{% for m in messages %}{{ '[' + m.role + ']' }}{% for p in m.content %}{{ p.text }}{% endfor %}{{ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}";
const rewriting =
  "{{ messages | length }}{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{{ '<|end|>' }}{% endfor %}";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-turns-"));
  const texts = ["USER: Find the red apple. ASSISTANT: no", "[user]And?[assistant]a dog"];
  const tokenizer = trainByteLevelBpe(texts, 300, specials);
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

async function encoderOf(chatTemplate: string, settings: object = { eos_token: "</s>", bos_token: "<s>" }) {
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify(settings));
  const tokenizer = await TextTokenizer.load(directory, { chatTemplate, textTokens: ["<ref>", "</ref>"] });
  const model = {
    imageTokenId: tokenizer.idOf("<image>"),
    contextWindow: 500,
    turns: "rendered",
    placeholders: () => [],
  };
  return { tokenizer, encoder: new ConversationEncoder(tokenizer, model as typeof model & { turns: "rendered" }) };
}

const turn = (role: ChatMessage["role"], content: string): ChatMessage => ({ role, content: partsOf(content) });
const conversation = [
  turn("user", "Find it."),
  turn("assistant", "no"),
  turn("user", "And?"),
  turn("assistant", "a dog "),
];

/** Text of a row, and what of it is trained. */
async function written(chatTemplate: string, messages: readonly ChatMessage[], forAnswer: boolean) {
  const { tokenizer, encoder } = await encoderOf(chatTemplate);
  const { inputIds, labels } = encoder.encode("row", messages, [], { forAnswer });
  return {
    text: tokenizer.decodeWithSpecials(inputIds),
    trained: tokenizer.decodeWithSpecials(labels.filter((label) => label >= 0)),
  };
}

describe("a template that ends answers with a space", () => {
  test("gets the end token in its place, which is trained with the answer as it stands", async () => {
    expect(await written(plain, conversation, false)).toEqual({
      text: "USER: Find it. ASSISTANT: no</s>USER: And? ASSISTANT: a dog </s>",
      trained: " no</s> a dog </s>",
    });
  });

  test("gets it in a prompt behind an answer too, and nothing is trained", async () => {
    expect(await written(plain, conversation.slice(0, 3), true)).toEqual({
      text: "USER: Find it. ASSISTANT: no</s>USER: And? ASSISTANT:",
      trained: "",
    });
  });

  test("is left as it is where no answer stands", async () => {
    expect((await written(plain, conversation.slice(0, 1), true)).text).toBe("USER: Find it. ASSISTANT:");
  });

  test("needs a tokenizer that names an end token", async () => {
    await expect(encoderOf(plain, {})).rejects.toThrow(/ends answers with no special token, .* names no eos_token/);
  });
});

test("a template's own end token is trained and ends answers", async () => {
  expect(await written(ended, conversation, false)).toEqual({
    text: "[user]Find it.<|end|>\n[assistant]no<|end|>\n[user]And?<|end|>\n[assistant]a dog <|end|>\n",
    trained: "no<|end|>a dog <|end|>",
  });
  const { encoder, tokenizer } = await encoderOf(ended);
  expect(encoder.stopTokenIds).toEqual([tokenizer.idOf("<|end|>")]);
});

test("an answer that repeats its question is told from it", async () => {
  const messages = [turn("user", "no ASSISTANT: no"), turn("assistant", "no ASSISTANT: no")];
  expect(await written(plain, messages, false)).toEqual({
    text: "USER: no ASSISTANT: no ASSISTANT: no ASSISTANT: no</s>",
    trained: " no ASSISTANT: no</s>",
  });
});

test("a template that writes earlier turns anew cannot be trained, and the row is named", async () => {
  const { encoder } = await encoderOf(rewriting);
  expect(() => encoder.encode("data.jsonl row 3", conversation, [], { forAnswer: false })).toThrow(
    /^data\.jsonl row 3: the chat template writes earlier turns in another way/,
  );
});

test("special tokens that a family counts as text may stand in messages, and answers keep them", async () => {
  const { encoder, tokenizer } = await encoderOf(ended);
  const row = encoder.encode("row", [turn("user", "Find it."), turn("assistant", "<ref>dog</ref>")], [], {
    forAnswer: false,
  });
  const answer = row.labels.filter((label) => label >= 0);
  expect(answer).toContain(tokenizer.idOf("<ref>"));
  expect(tokenizer.decode(answer)).toBe("<ref>dog</ref>");
});
