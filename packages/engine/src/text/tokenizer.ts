import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import { tokenizerHome } from "../weights/folder-parts.ts";

const Template = z.union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))]);
const SpecialToken = z.union([z.string(), z.looseObject({ content: z.string() }).transform(({ content }) => content)]);
const TokenizerConfig = z.looseObject({
  chat_template: Template.optional(),
  bos_token: SpecialToken.nullish(),
  eos_token: SpecialToken.nullish(),
});
const TokenizerFile = z.looseObject({
  added_tokens: z.array(z.looseObject({ content: z.string(), special: z.boolean().optional() })).optional(),
});
const ProcessorTemplate = z.looseObject({ chat_template: z.string() });

/** What a family changes in the tokenizer of its folder. */
export interface TokenizerSettings {
  /** In place of the folder's chat template. */
  readonly chatTemplate?: string;
  /** Where the folder has no chat template. */
  readonly spareChatTemplate?: string;
  /** Special tokens that stand for text: texts may hold them, and decoding keeps them. */
  readonly textTokens?: readonly string[];
}

/** The tokenizer of a model folder (`tokenizer.json`, `tokenizer_config.json`), with its chat template's source. */
export class TextTokenizer {
  readonly #tokenizer: Tokenizer;
  /** Jinja source of the chat template. */
  readonly chatTemplate: string;
  /** Tokens that steer the model and stand for no text, such as `<|im_end|>`. */
  readonly specialTokens: readonly string[];
  /** The token behind everything that the model was taught, null when the folder names none. */
  readonly endToken: string | null;
  readonly #startToken: string | null;

  private constructor(tokenizer: Tokenizer, config: z.infer<typeof TokenizerConfig>, chatTemplate: string) {
    this.#tokenizer = tokenizer;
    this.chatTemplate = chatTemplate;
    this.endToken = config.eos_token ?? null;
    this.#startToken = config.bos_token ?? null;
    this.specialTokens = [...tokenizer.get_added_tokens_decoder().values()]
      .filter(({ special }) => special)
      .map(({ content }) => content);
  }

  /**
   * Reads a model folder. The chat template is looked for as transformers does: `chat_template.jinja`,
   * `chat_template.json`, then `chat_template` of `tokenizer_config.json`.
   *
   * @throws InvalidError naming the file that is missing or wrong
   */
  static async load(modelDirectory: string, settings: TokenizerSettings = {}): Promise<TextTokenizer> {
    const directory = tokenizerHome(modelDirectory);
    const path = join(directory, "tokenizer.json");
    const tokenizer = withTextTokens(await readJson(path), settings.textTokens ?? []);
    const config = await readShape(join(directory, "tokenizer_config.json"), TokenizerConfig);
    const template =
      settings.chatTemplate ?? (await chatTemplateOf(directory, config.chat_template, settings.spareChatTemplate));
    try {
      return new TextTokenizer(new Tokenizer(tokenizer, config), config, template);
    } catch (error) {
      throw unreadable(path, error);
    }
  }

  /** The tokens that chat templates may name. */
  get templateTokens(): Readonly<Record<string, string>> {
    return {
      ...(this.#startToken === null ? {} : { bos_token: this.#startToken }),
      ...(this.endToken === null ? {} : { eos_token: this.endToken }),
    };
  }

  /** Token ids of a text; special tokens written in it are recognised, none are added. */
  encode(text: string): number[] {
    return text === "" ? [] : this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /**
   * Token ids of a rendered chat template: with what the tokenizer puts around every text (`<s>` of Llama), unless the
   * template has written the first of it. Source: `ProcessorMixin.apply_chat_template` of huggingface/transformers 5.23.
   */
  encodeRendered(text: string): number[] {
    const isStarted = this.#startToken !== null && text.startsWith(this.#startToken);
    return this.#tokenizer.encode(text, { add_special_tokens: !isStarted }).ids;
  }

  /** Text of token ids, special tokens left out. */
  decode(ids: readonly number[]): string {
    return this.#decode(ids, true);
  }

  /** Text of token ids, special tokens written out. */
  decodeWithSpecials(ids: readonly number[]): string {
    return this.#decode(ids, false);
  }

  /** Id of one token. @throws InvalidError when the vocabulary lacks it */
  idOf(token: string): number {
    const id = this.#tokenizer.token_to_id(token);
    if (id === undefined)
      throw new InvalidError(
        "unknown_token",
        `the tokenizer has no token "${token}", which its chat template needs; use the tokenizer that came with the model`,
      );
    return id;
  }

  #decode(ids: readonly number[], skipSpecials: boolean): string {
    return ids.length === 0
      ? ""
      : this.#tokenizer.decode([...ids], { skip_special_tokens: skipSpecials, clean_up_tokenization_spaces: false });
  }
}

/** The tokenizer's file with some of its tokens no longer special. */
function withTextTokens(file: object, textTokens: readonly string[]): object {
  const parsed = TokenizerFile.safeParse(file);
  if (textTokens.length === 0 || !parsed.success || !parsed.data.added_tokens) return file;
  const added = parsed.data.added_tokens.map((token) =>
    textTokens.includes(token.content) ? { ...token, special: false } : token,
  );
  return { ...file, added_tokens: added };
}

async function chatTemplateOf(
  directory: string,
  inConfig: z.infer<typeof TokenizerConfig>["chat_template"],
  spare: string | undefined,
): Promise<string> {
  const jinja = await optional(async () => await readFile(join(directory, "chat_template.jinja"), "utf8"));
  if (jinja !== undefined) return jinja;
  const file = await optional(async () => await readShape(join(directory, "chat_template.json"), ProcessorTemplate));
  if (file !== undefined) return file.chat_template;
  const own = typeof inConfig === "string" ? inConfig : inConfig?.find(({ name }) => name === "default")?.template;
  if (own !== undefined) return own;
  if (spare !== undefined) return spare;
  throw new InvalidError(
    "no_chat_template",
    `model folder ${directory} has no chat template: neither chat_template.jinja, chat_template.json nor chat_template in tokenizer_config.json; copy it from the model's makers`,
  );
}

async function readShape<Shape extends z.ZodType>(path: string, shape: Shape): Promise<z.infer<Shape>> {
  const parsed = shape.safeParse(await readJson(path));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new InvalidError("bad_model_folder", `${path}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""}`);
}

async function readJson(path: string): Promise<object> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as object;
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): InvalidError {
  return new InvalidError(
    "bad_model_folder",
    `${path} cannot be read: ${messageOf(error)}; copy it again from the model's makers`,
    { cause: error },
  );
}

/** undefined when the file is not there. */
async function optional<T>(read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    const cause = error instanceof InvalidError ? error.cause : error;
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return undefined;
    throw error;
  }
}
