import { InvalidError } from "@drydock/kit";
import type { ProcessedImage } from "../image/image-processor.ts";
import { ChatTemplate, type ChatMessage } from "../text/chat-template.ts";
import type { TextTokenizer } from "../text/tokenizer.ts";

/** A conversation as numbers, before it is padded into a batch. */
export interface EncodedRow {
  /** What messages call the row. */
  readonly name: string;
  readonly inputIds: readonly number[];
  /** Target predicted at each position, −100 = not trained. */
  readonly labels: readonly number[];
  readonly images: readonly ProcessedImage[];
  /** Index of the first visual token of each picture. */
  readonly imageStarts: readonly number[];
}

/** Tokens within which the newline of a turn's header must come; byte-sized tokens included. */
const longestHeader = 24;

/** Turns conversations into token ids and labels with a model's own template. */
export class ConversationEncoder {
  readonly #tokenizer: TextTokenizer;
  readonly #template: ChatTemplate;
  readonly #imageTokenId: number;
  readonly #contextWindow: number;
  readonly #turnStart: number;
  readonly #turnEnd: number;

  constructor(tokenizer: TextTokenizer, model: { readonly imageTokenId: number; readonly contextWindow: number }) {
    this.#tokenizer = tokenizer;
    this.#template = new ChatTemplate(tokenizer.chatTemplate);
    this.#imageTokenId = model.imageTokenId;
    this.#contextWindow = model.contextWindow;
    this.#turnStart = tokenizer.idOf("<|im_start|>");
    this.#turnEnd = tokenizer.idOf("<|im_end|>");
  }

  /** Tokens that end an answer. */
  get stopTokenIds(): readonly number[] {
    return [this.#turnEnd];
  }

  /**
   * @param reserve  tokens that must fit behind the row (the answer to come)
   * @throws InvalidError when pictures and marks differ in number, or the row does not fit the context window: nothing is
   *         ever cut off
   */
  encode(name: string, messages: readonly ChatMessage[], images: readonly ProcessedImage[], options: { readonly forAnswer: boolean; readonly reserve?: number }): EncodedRow {
    const marks = messages.flatMap(({ content }) => content).filter(({ type }) => type === "image").length;
    if (marks !== images.length) throw new InvalidError("image_count_mismatch", `${name}: the conversation has ${marks} picture marks but ${images.length} pictures`);
    const ids = this.#tokenizer.encode(this.#template.render(messages, options.forAnswer));
    const imageStarts: number[] = [];
    const inputIds = ids.flatMap((id) => (id === this.#imageTokenId ? this.#imageTokens(images[imageStarts.push(0) - 1]) : [id]));
    if (imageStarts.length !== images.length) throw new InvalidError("image_count_mismatch", `${name}: the chat template wrote ${imageStarts.length} picture marks for ${images.length} pictures`);
    locateImages(inputIds, this.#imageTokenId, images, imageStarts);
    const wanted = inputIds.length + (options.reserve ?? 0);
    if (wanted > this.#contextWindow)
      throw new InvalidError("over_context_window", `${name}: ${inputIds.length} tokens${options.reserve ? ` and ${options.reserve} for the answer` : ""} do not fit the context window of ${this.#contextWindow}; shorten the text or lower image.maxPixels`);
    return { name, inputIds, labels: options.forAnswer ? inputIds.map(() => -100) : this.#labels(inputIds), images, imageStarts };
  }

  #imageTokens(image: ProcessedImage | undefined): number[] {
    return Array.from({ length: image?.tokens ?? 0 }, () => this.#imageTokenId);
  }

  /** Trains the content of assistant turns and the token that ends each; everything else is −100. */
  #labels(ids: readonly number[]): number[] {
    const labels = ids.map(() => -100);
    for (let position = 0; position < ids.length; position++) {
      if (ids[position] !== this.#turnStart) continue;
      const content = this.#contentStart(ids, position);
      if (content === null) continue;
      for (position = content; position < ids.length; position++) {
        labels[position - 1] = ids[position] as number;
        if (ids[position] === this.#turnEnd) break;
      }
    }
    return labels;
  }

  /** Where the content of an assistant turn starts, null for other turns: after the newline that ends its header. */
  #contentStart(ids: readonly number[], start: number): number | null {
    for (let end = start + 2; end <= Math.min(start + longestHeader, ids.length); end++) {
      const header = this.#tokenizer.decode(ids.slice(start + 1, end));
      if (header.includes("\n")) return header.startsWith("assistant\n") ? end : null;
    }
    return null;
  }
}

function locateImages(ids: readonly number[], imageTokenId: number, images: readonly ProcessedImage[], starts: number[]): void {
  let position = 0;
  images.forEach((image, index) => {
    position = ids.indexOf(imageTokenId, position);
    starts[index] = position;
    position += image.tokens;
  });
}
