import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { corpus, specialTokens, vocabularySize } from "../../../../test/golden/text/corpus.ts";
import { ChatTemplate, partsOf, type ChatMessage } from "./chat-template.ts";
import { StreamingDecoder } from "./streaming-decoder.ts";
import { TextTokenizer } from "./tokenizer.ts";
import { trainByteLevelBpe } from "./train-tokenizer.ts";

const golden = resolve(import.meta.dirname, "../../../../test/golden/text");

async function read<T>(name: string): Promise<T> {
  return JSON.parse(await readFile(join(golden, name), "utf8")) as T;
}

const encoded = await read<readonly { text: string; ids: number[]; decoded: string }[]>("encoded.json");
const rendered = await read<readonly { messages: ChatMessage[]; prompt: boolean; text: string }[]>("rendered.json");

let tokenizer: TextTokenizer;
beforeAll(async () => (tokenizer = await TextTokenizer.load(join(golden, "model"))));

describe.each(encoded)("$text", ({ text, ids, decoded }) => {
  test("has the ids of the Python package", () => expect(tokenizer.encode(text)).toEqual(ids));
  test("comes back as in the Python package", () => expect(tokenizer.decodeWithSpecials(ids)).toBe(decoded));
});

test.each(rendered)("conversation %# is rendered as by transformers", ({ messages, prompt, text }) => {
  expect(new ChatTemplate(tokenizer.chatTemplate).render(messages, prompt)).toBe(text);
});

test("special tokens are known and left out of plain text", () => {
  expect([...tokenizer.specialTokens].sort()).toEqual([...specialTokens].sort());
  expect(tokenizer.decode(tokenizer.encode("<|im_start|>user\nhi<|im_end|>"))).toBe("user\nhi");
});

test("a token that the vocabulary lacks is named", () => {
  expect(() => tokenizer.idOf("<|vision_pad|>")).toThrow('the tokenizer has no token "<|vision_pad|>"');
});

describe("a training of the tokenizer", () => {
  test("gives the same vocabulary everywhere", async () => {
    expect(trainByteLevelBpe(corpus, vocabularySize, specialTokens)).toEqual(await read("model/tokenizer.json"));
  });

  test("learns nothing from special tokens in the corpus", () => {
    const texts = Array.from({ length: 9 }, () => "ab<|im_end|>ab");
    expect(trainByteLevelBpe(texts, 300, ["<|im_end|>"])).toMatchObject({ model: { merges: [["a", "b"]] } });
  });

  test.each(["0", "90", "740", "910"])("makes the often seen coordinate %s one token", (coordinate) =>
    expect(tokenizer.encode(coordinate)).toHaveLength(1),
  );

  test("refuses a size without room for the bytes", () => {
    expect(() => trainByteLevelBpe(corpus, 260, specialTokens)).toThrow(
      "a vocabulary of 260 is too small: bytes and special tokens alone are 262",
    );
  });
});

describe("streaming", () => {
  test.each(encoded.map(({ text }) => text))("%j arrives whole, in pieces", (text) => {
    const decoder = new StreamingDecoder(tokenizer);
    const ids = tokenizer.encode(text);
    expect(ids.map((id) => decoder.push(id)).join("") + decoder.finish()).toBe(tokenizer.decode(ids));
  });

  test("gives no half characters", () => {
    const decoder = new StreamingDecoder(tokenizer);
    const pieces = tokenizer.encode("🦀").map((id) => decoder.push(id));
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces).toEqual([...pieces.slice(1).map(() => ""), "🦀"]);
  });

  test("shows at the end that a character was cut", () => {
    const decoder = new StreamingDecoder(tokenizer);
    tokenizer
      .encode("🦀")
      .slice(0, 2)
      .forEach((id) => decoder.push(id));
    expect(decoder.finish()).toContain("\uFFFD");
  });
});

describe("a model folder", () => {
  let directory: string;
  const write = async (name: string, content: unknown): Promise<void> =>
    await writeFile(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "drydock-text-"));
    await write("tokenizer.json", await read<object>("model/tokenizer.json"));
    await write("tokenizer_config.json", { chat_template: "from the config" });
    return async () => await rm(directory, { recursive: true, force: true });
  });

  test("may keep its template in three places, of which the nearest to the makers' own wins", async () => {
    expect((await TextTokenizer.load(directory)).chatTemplate).toBe("from the config");
    await write("chat_template.json", { chat_template: "from json" });
    expect((await TextTokenizer.load(directory)).chatTemplate).toBe("from json");
    await write("chat_template.jinja", "from jinja");
    expect((await TextTokenizer.load(directory)).chatTemplate).toBe("from jinja");
  });

  test("may name several templates, of which the default one counts", async () => {
    await write("tokenizer_config.json", {
      chat_template: [
        { name: "tool_use", template: "t" },
        { name: "default", template: "d" },
      ],
    });
    expect((await TextTokenizer.load(directory)).chatTemplate).toBe("d");
  });

  test("puts its first token before a rendered template that has not written it", async () => {
    const { model, ...rest } = await read<{ model: { vocab: Record<string, number> } }>("model/tokenizer.json");
    const start = { id: "<|im_start|>", ids: [model.vocab["<|im_start|>"] ?? 0], tokens: ["<|im_start|>"] };
    await write("tokenizer.json", {
      ...rest,
      model,
      post_processor: {
        type: "TemplateProcessing",
        single: [{ SpecialToken: { id: "<|im_start|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
        pair: [],
        special_tokens: { "<|im_start|>": start },
      },
    });
    await write("tokenizer_config.json", { chat_template: "t", bos_token: { content: "<|im_start|>" } });
    const own = await TextTokenizer.load(directory);
    for (const text of ["hi", "<|im_start|>hi"])
      expect(own.decodeWithSpecials(own.encodeRendered(text))).toBe("<|im_start|>hi");
    expect(own.decodeWithSpecials(own.encode("hi"))).toBe("hi");
  });

  test("without a template is refused with the places that were looked at", async () => {
    await write("tokenizer_config.json", {});
    await expect(TextTokenizer.load(directory)).rejects.toThrow(
      /has no chat template: neither chat_template\.jinja, chat_template\.json nor chat_template in tokenizer_config\.json/,
    );
  });

  test.each([
    ["tokenizer.json", "{"],
    ["tokenizer.json", "{}"],
    ["tokenizer_config.json", "[1"],
    ["tokenizer_config.json", '{"chat_template":7}'],
  ])("with a broken %s (%s) is refused with the file's name", async (name, content) => {
    await write(name, content);
    await expect(TextTokenizer.load(directory)).rejects.toMatchObject({
      code: "bad_model_folder",
      message: expect.stringContaining(name) as string,
    });
  });
});

describe("a chat template", () => {
  test("that cannot be parsed is refused", () =>
    expect(() => new ChatTemplate("{% if %}")).toThrow("the chat template cannot be parsed"));

  const hello: ChatMessage[] = [{ role: "user", content: [{ type: "text", text: "Hello" }] }];
  test.each([
    ["text", "{% for m in messages %}{{ m.content }}{% endfor %}"],
    [
      "parts",
      "{% for m in messages %}{% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text }}{% endfor %}{% endfor %}",
    ],
  ])("gets turns as the %s that it reads", (_form, source) => {
    expect(new ChatTemplate(source).render(hello, false)).toBe("Hello");
  });

  test("may name the tokenizer's own tokens", () => {
    const template = new ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", {
      bos_token: "<s>",
      eos_token: "</s>",
    });
    expect(template.render(hello, false)).toBe("<s>Hello</s>");
  });

  test("may refuse a conversation in its own words", () => {
    const template = new ChatTemplate("{{ raise_exception('roles must alternate') }}");
    expect(() => template.render([{ role: "user", content: [] }], false)).toThrow(
      "the chat template refuses this conversation: roles must alternate",
    );
  });
});

test("picture marks become parts, with the newline that follows them", () => {
  expect(partsOf("<image>\nWhat is <image> here?")).toEqual([
    { type: "image" },
    { type: "text", text: "What is " },
    { type: "image" },
    { type: "text", text: " here?" },
  ]);
});
