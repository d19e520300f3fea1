import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TurnMarks } from "../models/model.ts";
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

type Turns = "rendered" | "continued" | TurnMarks;

async function encoderOf(
  chatTemplate: string,
  settings: object = { eos_token: "</s>", bos_token: "<s>" },
  turns: Turns = "rendered",
) {
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify(settings));
  const tokenizer = await TextTokenizer.load(directory, { chatTemplate, textTokens: ["<ref>", "</ref>"] });
  const model = {
    imageTokenId: tokenizer.idOf("<image>"),
    contextWindow: 500,
    turns,
    placeholders: () => [],
  };
  return { tokenizer, encoder: new ConversationEncoder(tokenizer, model) };
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

describe("one question and its answer, with no token between them", () => {
  const asked = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ '\\n' }}";
  const encoder = async () => await encoderOf(asked, undefined, "continued");

  test("the answer and the end token are trained", async () => {
    const { encoder: own, tokenizer } = await encoder();
    const row = own.encode("row", conversation.slice(0, 2), [], { forAnswer: false });
    expect(tokenizer.decodeWithSpecials(row.inputIds)).toBe("<s>Find it.\nno</s>");
    expect(tokenizer.decodeWithSpecials(row.labels.filter((label) => label >= 0))).toBe("no</s>");
  });

  test("a prompt ends where the answer begins", async () => {
    const { encoder: own, tokenizer } = await encoder();
    const row = own.encode("row", conversation.slice(0, 1), [], { forAnswer: true });
    expect(tokenizer.decodeWithSpecials(row.inputIds)).toBe("<s>Find it.\n");
  });

  test("a second answer is refused, and the row is named", async () => {
    const { encoder: own } = await encoder();
    expect(() => own.encode("data.jsonl row 3", conversation, [], { forAnswer: false })).toThrow(
      /^data\.jsonl row 3: the model takes one question and its answer, but the conversation has 2 answers; make a row of each/,
    );
    expect(() => own.encode("request", conversation.slice(0, 3), [], { forAnswer: true })).toThrow(
      /has 1 answers before its question/,
    );
  });

  test("a conversation without an answer cannot be trained", async () => {
    const { encoder: own } = await encoder();
    expect(() => own.encode("row 1", conversation.slice(0, 1), [], { forAnswer: false })).toThrow(
      /^row 1: the conversation has no assistant message/,
    );
  });

  test("the tokenizer must name its end token", async () => {
    await expect(encoderOf(asked, {}, "continued")).rejects.toThrow(/names no eos_token/);
  });
});

test("a header of two newlines is not part of the answer, and other turns are told from answers", async () => {
  const headers =
    "{% for m in messages %}{{ '<ref>' + m.role + '</ref>\\n\\n' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<ref>assistant</ref>\\n\\n' }}{% endif %}";
  await writeFile(join(directory, "tokenizer_config.json"), "{}");
  const tokenizer = await TextTokenizer.load(directory, { chatTemplate: headers });
  const turns = { start: "<ref>", answerHeader: "assistant\n\n", end: "<|end|>" };
  const model = { imageTokenId: -1, contextWindow: 500, turns, placeholders: () => [] };
  const { labels } = new ConversationEncoder(tokenizer, model).encode("row", conversation, [], { forAnswer: false });
  expect(tokenizer.decodeWithSpecials(labels.filter((label) => label >= 0))).toBe("no<|end|>a dog <|end|>");
});

test("a system message beside a picture stands before the question where the template would refuse it", async () => {
  const refusing =
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system message') }}{% endif %}{{ '[' + m.role + ']' }}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}{% endif %}{% endfor %}";
  await writeFile(join(directory, "tokenizer_config.json"), JSON.stringify({ eos_token: "</s>" }));
  const tokenizer = await TextTokenizer.load(directory, { chatTemplate: refusing });
  const imageTokenId = tokenizer.idOf("<image>");
  const encoder = new ConversationEncoder(tokenizer, {
    imageTokenId,
    contextWindow: 500,
    turns: "rendered",
    placeholders: () => [imageTokenId],
    refusesSystemBesidePictures: true,
  });
  const image = {
    patches: new Float32Array(0),
    grid: { time: 1, height: 1, width: 1 },
    tokens: 1,
    resized: { width: 1, height: 1 },
  };
  const asked = turn("user", "<image>Find it.");
  const { inputIds } = encoder.encode("row", [turn("system", "You look."), asked], [image], { forAnswer: true });
  expect(tokenizer.decodeWithSpecials(inputIds)).toBe("[user]<image>You look.\n\nFind it.");
  expect(() =>
    encoder.encode("row", [turn("system", "You look."), turn("user", "Find it.")], [], { forAnswer: true }),
  ).toThrow(/the chat template refuses this conversation: no system message/);
});
