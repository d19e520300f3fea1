import type { EncodedRow } from "./encoded-row.ts";
import { InvalidError } from "@drydock/kit";
import type { ProcessedImage } from "../image/image-processor.ts";
import type { Model } from "../models/model.ts";
import { ChatTemplate, type ChatMessage } from "../text/chat-template.ts";
import type { TextTokenizer } from "../text/tokenizer.ts";
import { turnWriter, type TurnWriter, type WrittenTurns } from "./answer-turns.ts";

/** What the encoder asks of a model. */
export type EncodedModel = Pick<
  Model,
  "imageTokenId" | "contextWindow" | "turns" | "placeholders" | "refusesSystemBesidePictures"
>;

/** Turns conversations into token ids and labels with a model's own template. */
export class ConversationEncoder {
  readonly #tokenizer: TextTokenizer;
  readonly #model: EncodedModel;
  readonly #turns: TurnWriter;

  constructor(tokenizer: TextTokenizer, model: EncodedModel) {
    this.#tokenizer = tokenizer;
    this.#model = model;
    const template = new ChatTemplate(tokenizer.chatTemplate, tokenizer.templateTokens);
    this.#turns = turnWriter(model.turns, template, tokenizer);
  }

  /** Tokens that end an answer. */
  get stopTokenIds(): readonly number[] {
    return [this.#turns.endId];
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
    const written = this.#turns.write(
      name,
      this.#model.refusesSystemBesidePictures && images.length > 0 ? withSystemInQuestion(messages) : messages,
      options.forAnswer,
    );
    const { inputIds, imagePositions, places } = this.#tokens(name, written, images);
    this.#refuseOverlong(name, inputIds.length, options.reserve ?? 0, images);
    const labels = inputIds.map(() => -100);
    if (!options.forAnswer) {
      this.#refuseUntrainable(name, written, messages);
      for (const [first, end] of written.answers)
        for (let position = places[first] as number; position < (places[end] as number); position++)
          labels[position - 1] = inputIds[position] as number;
    }
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
    written: WrittenTurns,
    images: readonly ProcessedImage[],
  ): {
    readonly inputIds: number[];
    readonly imagePositions: number[][];
    /** Where each written token lies among `inputIds`, and one more behind the last. */
    readonly places: readonly number[];
  } {
    const { imageTokenId } = this.#model;
    const inputIds: number[] = [];
    const imagePositions: number[][] = [];
    const places: number[] = [];
    for (const id of written.ids) {
      places.push(inputIds.length);
      if (id !== imageTokenId) {
        inputIds.push(id);
        continue;
      }
      const image = images[imagePositions.length];
      const own: number[] = [];
      for (const token of image ? this.#model.placeholders(image, this.#tokenizer) : []) {
        if (token === imageTokenId) own.push(inputIds.length);
        inputIds.push(token);
      }
      imagePositions.push(own);
    }
    if (imagePositions.length !== images.length)
      throw new InvalidError(
        "image_count_mismatch",
        `${name}: the chat template wrote ${imagePositions.length} picture marks for ${images.length} pictures; use the template that came with the model`,
      );
    return { inputIds, imagePositions, places: [...places, inputIds.length] };
  }

  /** Content of assistant turns and the token that ends each are trained; there must be some, and all must be found. */
  #refuseUntrainable(name: string, { answers }: WrittenTurns, messages: readonly ChatMessage[]): void {
    const expected = messages.filter(({ role }) => role === "assistant").length;
    if (expected === 0)
      throw new InvalidError(
        "no_answer",
        `${name}: the conversation has no assistant message to train on; add one or leave the row out`,
      );
    if (answers.length !== expected)
      throw new InvalidError(
        "bad_chat_template",
        `${name}: the chat template wrote ${answers.length} answers for ${expected} assistant messages; only templates whose answers ${this.#turns.form} can be trained`,
      );
  }
}

/** A conversation whose system message stands before the text of its first question. */
function withSystemInQuestion(messages: readonly ChatMessage[]): readonly ChatMessage[] {
  const system = messages.flatMap(({ role, content }) => (role === "system" ? content : []));
  const text = system.map((part) => (part.type === "text" ? part.text : "")).join("");
  const turns = messages.filter(({ role }) => role !== "system");
  const first = turns.findIndex(({ role }) => role === "user");
  if (text === "" || first < 0) return turns;
  return turns.map((turn, index) => {
    if (index !== first) return turn;
    const at = turn.content.findIndex(({ type }) => type === "text");
    const question = turn.content[at];
    return question?.type === "text"
      ? { ...turn, content: turn.content.with(at, { type: "text", text: `${text}\n\n${question.text}` }) }
      : { ...turn, content: [...turn.content, { type: "text", text }] };
  });
}
