import type { BoxConvention } from "@drydock/spec";
import type { EncodedRow } from "../batch/encoded-row.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import type { GraphBuilder } from "../graph/build.ts";
import type { Node } from "../graph/ops.ts";
import type { ImageProcessor, PixelBounds, ProcessedImage } from "../image/image-processor.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import type { TextTokenizer } from "../text/tokenizer.ts";
import type { ArrayLimits, LoraPlacement, QuantizedLinear, Variables } from "./variables.ts";

/**
 * A model of one family and one size, as its `config.json` describes it: all that training and answering need to know, so that
 * neither knows a family.
 *
 * Weights have the names that `transformers` 5 gives them in memory, which are those that PEFT adapters use.
 */
export interface Model {
  /** `model_type` of config.json. */
  readonly type: string;
  readonly vocabularySize: number;
  /** Positions. */
  readonly contextWindow: number;
  readonly imageTokenId: number;
  /** How the family writes boxes. */
  readonly boxConvention: BoxConvention;
  /** Why the model takes no adapter; null = it does. */
  readonly loraRefusal: string | null;
  /** What one pass leaves for the next token, in order. */
  readonly cache: readonly CacheSlot[];
  /** Whether a further token reads the pictures through the cache, so that rows with pictures need another graph. */
  readonly stepSeesImages: boolean;
  /**
   * How its chat template marks the turns that are trained; `rendered` = not at all: they are found by rendering; `continued` =
   * there is one, which follows the rendered prompt.
   */
  readonly turns: TurnMarks | "rendered" | "continued";

  /** The forward graph. Symbols: B rows, T tokens, S cached tokens, W = S + T, and those of `symbols`. */
  forward(options: ForwardOptions): ForwardGraph;
  /** Inputs of the forward graph for a batch. @throws InvalidError when its visual tokens do not match its pictures */
  feeds(batch: ModelBatch): Feeds;
  symbols(batch: ModelBatch): Symbols;
  /**
   * Inputs of the graph with a cache beyond `ids`, `mask` and `past.*`: for one further token in each row of `batch`.
   *
   * @param positions  `[3, B]`: where the tokens stand
   * @param span       tokens of the cache, the prompts' with their padding first, then those that followed, and the new one
   */
  step(batch: ModelBatch, positions: Int32Array, span: number): { readonly feeds: Feeds; readonly symbols: Symbols };
  /** Positions of the tokens of one row. */
  positions(row: Pick<EncodedRow, "inputIds" | "images" | "imagePositions">): Positions;
  /** Tokens that stand for a picture in place of its mark; those with `imageTokenId` are its visual ones. */
  placeholders(image: ProcessedImage, tokenizer: TextTokenizer): readonly number[];
  /** @param file  what `preprocessor_config.json` holds. @throws InvalidError naming the field that is wrong */
  imageProcessor(file: unknown, bounds: PixelBounds): ImageProcessor;
  /** Names under which files may hold a weight, the usual one first. */
  storedNames(name: string): readonly string[];
  /** Jinja source of the chat template, for families whose folders hold none that knows pictures. */
  readonly chatTemplate?: string;
  /** Jinja source of the chat template, for families whose folders may hold none. */
  readonly spareChatTemplate?: string;
  /** Whether its template refuses system messages beside pictures: their text then stands before that of the first question. */
  readonly refusesSystemBesidePictures?: boolean;
  /** Special tokens that stand for text: conversations may hold them, and answers keep them. */
  readonly textTokens?: readonly string[];
  /** Which part of the stored tensor a weight is, where files hold several weights in one; absent or null = all of it. */
  storedPart?(name: string): StoredPart | null;
  /** Whether a file may hold a tensor of this name that the model does not read. */
  isUnused(storedName: string): boolean;
}

/** What a family may ask of the folder beside its config.json. */
export interface FolderFacts {
  /** Id of a special token; undefined when the folder's tokenizer has none of that name. */
  tokenId(token: string): number | undefined;
}

/** One of `count` equal parts of a stored tensor, cut along its first axis. */
export interface StoredPart {
  readonly index: number;
  readonly count: number;
}

/** `[axis][token]`: time, height, width; all the same where the model knows one axis. */
export type Positions = readonly [readonly number[], readonly number[], readonly number[]];

/** One array of the cache, an input `past.<name>` and an output `new.<name>`. */
export interface CacheSlot {
  readonly name: string;
  /** `grows`: `[B, heads, tokens, size]`, each pass adds its tokens; `replaced`: a state; `kept`: made by the first pass. */
  readonly kind: "grows" | "replaced" | "kept";
  /** Without the axes of rows and tokens: `[heads, size]` of one that grows, else all that follows the rows. */
  shape(batch: ModelBatch): readonly number[];
}

export interface ForwardOptions {
  readonly hasImages: boolean;
  /** One further token a row with the cache of the tokens before it. */
  readonly hasCache?: boolean;
  readonly isTrained?: (name: string) => boolean;
  readonly lora?: LoraPlacement | null;
  /** What `Variables` hands on to attention and loss. */
  readonly limits?: ArrayLimits;
  /** Linear layers, by module path, whose weights are stored in few bits; `openModelFolder` gives them. */
  readonly quantized?: ReadonlyMap<string, QuantizedLinear>;
}

export interface ForwardGraph {
  readonly graph: GraphBuilder;
  readonly variables: Variables;
  /** What this pass leaves for the next token, by slot. */
  readonly cache: ReadonlyMap<string, Node>;
  /** `[B·T, D]` after each decoder layer, and what each block of the image tower gives: where the graph may be cut. */
  readonly layers: readonly Node[];
  readonly visionBlocks: readonly Node[];
  /** Logits `[L, vocabulary]` at the rows given as input `rows` `[L]`, or of all rows. */
  logits(rows: "all" | "given"): Node;
}

/** A trained turn is `start header content end`; content and end are trained. */
export interface TurnMarks {
  /** The special token that opens a turn. */
  readonly start: string;
  /** What follows it in a turn of the model. */
  readonly answerHeader: string;
  /** The token that ends a turn. */
  readonly end: string;
}

/** Turns as ChatML writes them. */
export const chatMl: TurnMarks = { start: "<|im_start|>", answerHeader: "assistant\n", end: "<|im_end|>" };

/** Forward graph of a whole model with every weight and every place for an adapter. */
export function wholeForward(model: Model): ForwardGraph {
  const forward = model.forward({ hasImages: true });
  forward.logits("all");
  return forward;
}
