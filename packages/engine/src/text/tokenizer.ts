import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";

const TokenizerConfig = z.looseObject({ chat_template: z.string().optional(), eos_token: z.unknown().optional() });

/** The tokenizer of a model folder (`tokenizer.json`, `tokenizer_config.json`), with its chat template's source. */
export class TextTokenizer {
  readonly #tokenizer: Tokenizer;
  /** Jinja source of the chat template. */
  readonly chatTemplate: string;

  private constructor(tokenizer: Tokenizer, chatTemplate: string) {
    this.#tokenizer = tokenizer;
    this.chatTemplate = chatTemplate;
  }

  /** @throws InvalidError naming the file that is missing or wrong */
  static async load(directory: string): Promise<TextTokenizer> {
    const tokenizer = await readJson(join(directory, "tokenizer.json"));
    const config = TokenizerConfig.parse(await readJson(join(directory, "tokenizer_config.json")));
    const template = (await readOptional(join(directory, "chat_template.jinja"))) ?? config.chat_template;
    if (template === undefined) throw new InvalidError("no_chat_template", `model folder ${directory} has no chat template: neither chat_template.jinja nor chat_template in tokenizer_config.json`);
    return new TextTokenizer(new Tokenizer(tokenizer, config), template);
  }

  /** Token ids of a text; special tokens written in it are recognised, none are added. */
  encode(text: string): number[] {
    return text === "" ? [] : this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** Text of token ids, special tokens left out. */
  decode(ids: readonly number[]): string {
    return ids.length === 0 ? "" : this.#tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }

  /** Text of token ids, special tokens written out. */
  decodeWithSpecials(ids: readonly number[]): string {
    return ids.length === 0 ? "" : this.#tokenizer.decode([...ids], { skip_special_tokens: false, clean_up_tokenization_spaces: false });
  }

  /** Id of one token. @throws InvalidError when the vocabulary lacks it */
  idOf(token: string): number {
    const id = this.#tokenizer.token_to_id(token);
    if (id === undefined) throw new InvalidError("unknown_token", `the tokenizer has no token "${token}", which its chat template needs`);
    return id;
  }
}

/** Text of a growing token list, given out only up to the last whole character: bytes of one may lie in several tokens. */
export class StreamingDecoder {
  readonly #tokenizer: TextTokenizer;
  readonly #ids: number[] = [];
  #given = "";

  constructor(tokenizer: TextTokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Text that is new with this token, perhaps empty. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#tokenizer.decode(this.#ids);
    if (text.endsWith("\uFFFD")) return "";
    const fresh = text.slice(this.#given.length);
    this.#given = text;
    return fresh;
  }
}

async function readJson(path: string): Promise<object> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as object;
  } catch (error) {
    throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}
