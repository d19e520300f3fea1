import type { TextTokenizer } from "./tokenizer.ts";

/**
 * Text of a growing token list, given out only up to the last whole character: the bytes of one may lie in several tokens.
 * Each token costs the decoding of a few, not of all before it.
 */
export class StreamingDecoder {
  readonly #tokenizer: Pick<TextTokenizer, "decode">;
  readonly #ids: number[] = [];
  /** Tokens decoded again with the new ones, because a decoder may look at its left neighbours. */
  #context = 0;
  /** Tokens whose text has been given out. */
  #given = 0;

  constructor(tokenizer: Pick<TextTokenizer, "decode">) {
    this.#tokenizer = tokenizer;
  }

  /** Text that is whole with this token, perhaps empty. */
  push(id: number): string {
    this.#ids.push(id);
    const { text, before } = this.#pending();
    if (text.endsWith("\uFFFD")) return "";
    this.#context = this.#given;
    this.#given = this.#ids.length;
    return text.slice(before.length);
  }

  /** What is left at the end: a character that was never completed, as U+FFFD. */
  finish(): string {
    const { text, before } = this.#pending();
    this.#context = this.#given = this.#ids.length;
    return text.slice(before.length);
  }

  #pending(): { readonly text: string; readonly before: string } {
    return {
      text: this.#tokenizer.decode(this.#ids.slice(this.#context)),
      before: this.#tokenizer.decode(this.#ids.slice(this.#context, this.#given)),
    };
  }
}
