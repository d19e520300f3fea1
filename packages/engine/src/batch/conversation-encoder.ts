import { InvalidError } from "@drydock/kit";
import type { ProcessedImage } from "../image/image-processor.ts";
import type { Model } from "../models/model.ts";
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
  /** Indices of the visual tokens of each picture. */
  readonly imagePositions: readonly (readonly number[])[];
}

/** What the encoder asks of a model. */
export type EncodedModel = Pick<Model, "imageTokenId" | "contextWindow" | "turns" | "placeholders">;

/** Tokens within which the newline of a turn's header must come; byte-sized tokens included. */
const longestHeader = 24;

/** Turns conversations into token ids and labels with a model's own template. */
export class ConversationEncoder {
  readonly #tokenizer: TextTokenizer;
  readonly #template: ChatTemplate;
  readonly #model: EncodedModel;
  readonly #turnStart: number;
  readonly #turnEnd: number;

  constructor(tokenizer: TextTokenizer, model: EncodedModel) {
    this.#tokenizer = tokenizer;
    this.#template = new ChatTemplate(tokenizer.chatTemplate);
    this.#model = model;
    this.#turnStart = tokenizer.idOf(model.turns.start);
    this.#turnEnd = tokenizer.idOf(model.turns.end);
  }

  /** Tokens that end an answer. */
  get stopTokenIds(): readonly number[] {
    return [this.#turnEnd];
  }

  /**
   * @param name     what messages call the row
   * @param options  `forAnswer`: ends where the model's answer begins, and trains nothing; `reserve`: tokens that must fit
   *                 behind the row (the answer to come)
   * @throws InvalidError when pictures and marks differ in number, the text holds a special token of the model, there is no
   *         answer to train on, or the row does not fit the context window: nothing is ever cut off
   */
  encode(
    name: string,
    messages: readonly ChatMessage[],
    images: readonly ProcessedImage[],
    options: { readonly forAnswer: boolean; readonly reserve?: number },
  ): EncodedRow {
    this.#refuseSpecialTokens(name, messages);
    const marks = messages.flatMap(({ content }) => content).filter(({ type }) => type === "image").length;
    if (marks !== images.length)
      throw new InvalidError(
        "image_count_mismatch",
        `${name}: the conversation has ${marks} picture marks but ${images.length} pictures; write one <image> for each picture`,
      );
    const { inputIds, imagePositions } = this.#tokens(name, messages, images, options.forAnswer);
    this.#refuseOverlong(name, inputIds.length, options.reserve ?? 0, images);
    const labels = options.forAnswer ? inputIds.map(() => -100) : this.#labels(name, inputIds, messages);
    return { name, inputIds, labels, images, imagePositions };
  }

  #refuseOverlong(name: string, tokens: number, reserve: number, images: readonly ProcessedImage[]): void {
    if (tokens + reserve <= this.#model.contextWindow) return;
    const forPictures = images.reduce((sum, image) => sum + image.tokens, 0);
    const share = forPictures > 0 ? `, ${forPictures} of them for pictures,` : "";
    const answer = reserve > 0 ? ` and ${reserve} for the answer` : "";
    const remedy = forPictures > 0 ? "shorten the text or lower image.maxPixels" : "shorten the text";
    throw new InvalidError(
      "over_context_window",
      `${name}: ${tokens} tokens${share}${answer} do not fit the context window of ${this.#model.contextWindow}; ${remedy}`,
    );
  }

  /** Text that steers the model would end a turn or start another one inside a message. */
  #refuseSpecialTokens(name: string, messages: readonly ChatMessage[]): void {
    for (const { role, content } of messages)
      for (const part of content) {
        if (part.type !== "text" || !part.text.includes("<")) continue;
        const found = this.#tokenizer.specialTokens.find((token) => part.text.includes(token));
        if (found !== undefined)
          throw new InvalidError(
            "special_token_in_text",
            `${name}: the ${role} message contains ${found}, which steers the model; remove it from the text`,
          );
      }
  }

  /** Token ids with each picture's mark written out to as many tokens as the picture has. */
  #tokens(
    name: string,
    messages: readonly ChatMessage[],
    images: readonly ProcessedImage[],
    forAnswer: boolean,
  ): { readonly inputIds: number[]; readonly imagePositions: number[][] } {
    const { imageTokenId } = this.#model;
    const inputIds: number[] = [];
    const imagePositions: number[][] = [];
    for (const id of this.#tokenizer.encode(this.#template.render(messages, forAnswer))) {
      if (id !== imageTokenId) {
        inputIds.push(id);
        continue;
      }
      const image = images[imagePositions.length];
      const places: number[] = [];
      for (const token of image ? this.#model.placeholders(image, this.#tokenizer) : []) {
        if (token === imageTokenId) places.push(inputIds.length);
        inputIds.push(token);
      }
      imagePositions.push(places);
    }
    if (imagePositions.length !== images.length)
      throw new InvalidError(
        "image_count_mismatch",
        `${name}: the chat template wrote ${imagePositions.length} picture marks for ${images.length} pictures; use the template that came with the model`,
      );
    return { inputIds, imagePositions };
  }

  /** Trains the content of assistant turns and the token that ends each; everything else is −100. */
  #labels(name: string, ids: readonly number[], messages: readonly ChatMessage[]): number[] {
    const labels = ids.map(() => -100);
    let answers = 0;
    for (let position = 0; position < ids.length; position++) {
      if (ids[position] !== this.#turnStart) continue;
      const content = this.#contentStart(ids, position);
      if (content === null) continue;
      answers += 1;
      for (position = content; position < ids.length; position++) {
        labels[position - 1] = ids[position] as number;
        if (ids[position] === this.#turnEnd) break;
      }
    }
    const expected = messages.filter(({ role }) => role === "assistant").length;
    if (expected === 0)
      throw new InvalidError(
        "no_answer",
        `${name}: the conversation has no assistant message to train on; add one or leave the row out`,
      );
    if (answers !== expected)
      throw new InvalidError(
        "bad_chat_template",
        `${name}: the chat template wrote ${answers} answers for ${expected} assistant messages; only templates whose answers begin with ${JSON.stringify(this.#model.turns.start + this.#model.turns.answerHeader)} can be trained`,
      );
    return labels;
  }

  /** Where the content of an assistant turn starts, null for other turns: after the newline that ends its header. */
  #contentStart(ids: readonly number[], start: number): number | null {
    for (let end = start + 2; end <= Math.min(start + longestHeader, ids.length); end++) {
      const header = this.#tokenizer.decode(ids.slice(start + 1, end));
      if (header.includes("\n")) return header.startsWith(this.#model.turns.answerHeader) ? end : null;
    }
    return null;
  }
}
