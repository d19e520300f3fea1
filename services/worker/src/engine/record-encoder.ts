import { writeGroundings, type BoxSpace } from "@drydock/data";
import {
  ConversationEncoder,
  TextTokenizer,
  collate,
  loadImageProcessor,
  partsOf,
  type ChatMessage,
  type EncodedRow,
  type ImageProcessor,
  type Model,
  type ModelBatch,
  type PixelBounds,
} from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import type { DataRecord, RecordImage } from "@drydock/spec";
import { BadDataError } from "../failure.ts";
import { RowCache } from "./row-cache.ts";

export interface EncoderSettings {
  /** Folder with the tokenizer, its chat template and the preprocessor's settings. */
  readonly directory: string;
  readonly model: Model;
  readonly image: PixelBounds;
  /** For conversations that bring none of their own; empty = none. */
  readonly systemPrompt: string;
  readonly pathOf: (image: RecordImage) => Promise<string>;
}

/** Encoded rows that are kept in memory, so that small pictures are decoded once and not once an epoch. */
const cacheBytes = 256 * 2 ** 20;

/** What a chat template may add around the turns: far more than any known one does. */
const mostTemplateTokens = 256;

/** Turns records into what the model takes, and tokens back into text, with the model's own tokenizer and template. */
export class RecordEncoder {
  readonly #settings: EncoderSettings;
  readonly #tokenizer: TextTokenizer;
  readonly #conversations: ConversationEncoder;
  readonly #images: ImageProcessor;
  readonly #cache = new RowCache(cacheBytes);

  private constructor(settings: EncoderSettings, tokenizer: TextTokenizer, images: ImageProcessor) {
    this.#settings = settings;
    this.#tokenizer = tokenizer;
    this.#images = images;
    this.#conversations = new ConversationEncoder(tokenizer, settings.model);
  }

  static async open(settings: EncoderSettings): Promise<RecordEncoder> {
    return new RecordEncoder(
      settings,
      await TextTokenizer.load(settings.directory, settings.model),
      await loadImageProcessor(settings.model, settings.directory, settings.image),
    );
  }

  get tokenizer(): TextTokenizer {
    return this.#tokenizer;
  }

  /** Tokens that end an answer. */
  get stopTokenIds(): readonly number[] {
    return this.#conversations.stopTokenIds;
  }

  /** Rows of one micro-batch, questions with their answers, labels on the answers. @throws BadDataError naming the row */
  async trainingBatch(records: readonly DataRecord[]): Promise<ModelBatch> {
    const rows = await Promise.all(
      records.map(async (record) => await this.#cache.get(record.rowId, async () => await this.#encode(record, null))),
    );
    return this.#collate(rows);
  }

  /** The same without the answers, ready to be continued by `reserve` tokens. */
  async questionBatch(records: readonly DataRecord[], reserve: number): Promise<ModelBatch> {
    return this.#collate(await Promise.all(records.map(async (record) => await this.#encode(record, reserve))));
  }

  /** One conversation as it stands: with the generation prompt when the answer is still to come. */
  async conversationBatch(record: DataRecord): Promise<ModelBatch> {
    const isAnswered = record.messages.at(-1)?.role === "assistant";
    return this.#collate([await this.#encode(record, isAnswered ? null : 0)]);
  }

  /**
   * Refuses rows that do not fit the context window, before anything is trained. Text of n bytes has at most n tokens, so
   * only rows that might be too long are encoded.
   *
   * @param reserve  tokens for the answer to come; null = the answer is part of the row
   * @throws BadDataError naming the row
   */
  async checkWindow(records: readonly DataRecord[], reserve: number | null): Promise<void> {
    for (const record of records) {
      if (this.#mostTokens(record) + (reserve ?? 0) > this.#settings.model.contextWindow)
        await this.#encode(record, reserve);
    }
  }

  /** How the model writes boxes for the (first) picture of a record. */
  boxSpaceOf(record: DataRecord): BoxSpace {
    const [image] = record.images;
    const { boxConvention: convention } = this.#settings.model;
    return image ? { convention, resized: this.#imagesOf(record).resizedSize(image) } : { convention };
  }

  #imagesOf({ images }: DataRecord): ImageProcessor {
    return images.length > 1 ? (this.#images.ofSeveral ?? this.#images) : this.#images;
  }

  decode(tokenIds: readonly number[]): string {
    return this.#tokenizer.decode(tokenIds);
  }

  #mostTokens(record: DataRecord): number {
    const text = this.#wholeConversation(record)
      .flatMap(({ content }) => content)
      .reduce((sum, part) => sum + (part.type === "text" ? Buffer.byteLength(part.text) : 0), 0);
    const images = this.#imagesOf(record);
    const visual = record.images.reduce((sum, image) => sum + images.tokensOf(image), 0);
    return text + visual + mostTemplateTokens;
  }

  #collate(rows: readonly EncodedRow[]): ModelBatch {
    return collate(rows, this.#settings.model);
  }

  /** @param reserve  tokens for the answer to come; null = the answer is part of the row */
  async #encode(record: DataRecord, reserve: number | null): Promise<EncodedRow> {
    const name = `row ${record.rowId} (${record.source.file}, line ${record.source.row})`;
    try {
      const processor = this.#imagesOf(record);
      const images = await Promise.all(
        record.images.map(async (image) => await processor.process(await this.#settings.pathOf(image), image.fileName)),
      );
      const messages = reserve === null ? this.#wholeConversation(record) : this.#question(record);
      return this.#conversations.encode(
        name,
        messages,
        images,
        reserve === null ? { forAnswer: false } : { forAnswer: true, reserve },
      );
    } catch (error) {
      if (!(error instanceof InvalidError) || error instanceof BadDataError) throw error;
      throw new BadDataError(error.message.startsWith(name) ? error.message : `${name}: ${error.message}`, {
        cause: error,
      });
    }
  }

  #wholeConversation(record: DataRecord): ChatMessage[] {
    const messages = this.#withSystemPrompt(record);
    if (record.task !== "phrase-grounding" || record.groundings === undefined || messages.at(-1)?.role === "assistant")
      return messages;
    return [
      ...messages,
      {
        role: "assistant",
        content: [{ type: "text", text: writeGroundings(record.groundings, this.boxSpaceOf(record)) }],
      },
    ];
  }

  /** The turns before the last answer. */
  #question(record: DataRecord): ChatMessage[] {
    const messages = this.#withSystemPrompt(record);
    return messages.at(-1)?.role === "assistant" ? messages.slice(0, -1) : messages;
  }

  #withSystemPrompt({ messages }: DataRecord): ChatMessage[] {
    const turns = messages.map(({ role, content }): ChatMessage => ({
      role,
      content: role === "user" ? partsOf(content) : [{ type: "text", text: content }],
    }));
    if (this.#settings.systemPrompt === "" || turns[0]?.role === "system") return turns;
    return [{ role: "system", content: [{ type: "text", text: this.#settings.systemPrompt }] }, ...turns];
  }
}
