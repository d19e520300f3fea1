/*
 * Which tokens see which pictures. A token sees the picture whose mark it follows last, and those whose marks stand together
 * with it. A token that follows no mark of its row sees, in the reference, all that its row has, padding included, and its
 * feed-forward branch is left out; a row without pictures goes past the layers that look at pictures.
 *
 * Source: `get_cross_attention_token_mask` of `processing_mllama.py` and `_prepare_cross_attention_mask` of
 * `modeling_mllama.py`, huggingface/transformers 5.23.
 */
import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product } from "../../graph/shape.ts";
import type { Feeds, Symbols } from "../../runtime/feeds.ts";
import type { Reach } from "../parts/grouped-attention.ts";
import type { MllamaVisionConfig } from "./config.ts";

/** Graph inputs of the layers that look at pictures. Symbols: C pictures of the row that has most. */
export interface Sight {
  /** `[B, T]` and `[B, C·M·(1 + P)]`: keys are ordered by their picture. */
  readonly mask: Reach;
  /** `[B·T, 1]`: 1 where the token's row has pictures. */
  readonly rowHasPictures: Node;
  /** `[B·T, 1]`: 1 where the token sees a picture. */
  readonly tokenSees: Node;
}

/** Where tiles stand that pictures do not have: only tokens that follow no mark see them. */
const padding = 2 ** 29;
/** Where pictures stand that a row does not have. */
const nothing = 2 ** 30;

export function sightInputs(graph: GraphBuilder, config: MllamaVisionConfig): Sight {
  return {
    mask: {
      reach: graph.input("cross-reach", ["B", "T"]),
      floor: graph.input("cross-floor", ["B", "T"]),
      order: graph.input("cross-order", ["B", product(["C", keysOfPicture(config)])]),
    },
    rowHasPictures: graph.input("row-has-pictures", ["B*T", 1]),
    tokenSees: graph.input("token-sees", ["B*T", 1]),
  };
}

/** Keys of one picture: class token and patches of all its tiles, those included that it does not have. */
export function keysOfPicture({ tiles, side }: Pick<MllamaVisionConfig, "tiles" | "side">): number {
  return tiles * (1 + side ** 2);
}

/** Feeds of a whole pass. @throws InvalidError when marks and pictures of a row differ in number */
export function sightFeeds(config: MllamaVisionConfig, batch: ModelBatch): Feeds {
  const { batchSize, sequenceLength } = batch;
  const seen = rangesOf(batch);
  return {
    ...feedsOf(seen, [batchSize, sequenceLength]),
    "cross-order": keyOrder(config, batch),
    "picture-slots": pictureSlots(batch),
  };
}

/** Feeds for one further token a row: it sees what the last one of its row did. */
export function stepSightFeeds(config: MllamaVisionConfig, batch: ModelBatch): Feeds {
  const { batchSize, sequenceLength, attentionMask } = batch;
  const seen = rangesOf(batch);
  const last = Array.from({ length: batchSize }, (_, row) => {
    const start = row * sequenceLength;
    return seen[start + attentionMask.subarray(start, start + sequenceLength).lastIndexOf(1)] as Range;
  });
  return { ...feedsOf(last, [batchSize, 1]), "cross-order": keyOrder(config, batch) };
}

export function sightSymbols({ pictures, batchSize }: ModelBatch): Symbols {
  return { C: mostPictures({ pictures, batchSize }) };
}

/** Pictures that a token sees, first to last; `blind`: no mark stands before it; `none`: its row has no pictures. */
type Range = { readonly first: number; readonly last: number } | "blind" | "none";

/** `[B·T]`. */
function rangesOf(batch: ModelBatch): Range[] {
  const { batchSize, sequenceLength, attentionMask } = batch;
  const counts = picturesByRow(batch);
  const marks: number[][] = Array.from({ length: batchSize }, () => []);
  for (const place of batch.imageRows) marks[Math.floor(place / sequenceLength)]?.push(place % sequenceLength);
  return marks.flatMap((places, row) => {
    if (places.length !== counts[row])
      throw new InvalidError(
        "image_tokens_mismatch",
        `a row of the batch has ${places.length} image tokens but ${counts[row]} pictures`,
      );
    if (places.length === 0) return Array.from({ length: sequenceLength }, (): Range => "none");
    const length = attentionMask.subarray(row * sequenceLength, (row + 1) * sequenceLength).lastIndexOf(1) + 1;
    const ends = endsOf(places, length);
    return Array.from({ length: sequenceLength }, (_, token): Range => {
      const first = places.findIndex((start, picture) => start <= token && token < (ends[picture] as number));
      const last = places.findLastIndex((start, picture) => start <= token && token < (ends[picture] as number));
      return first < 0 ? "blind" : { first, last };
    });
  });
}

/** To where the picture of each mark is seen: to the next mark, and where marks stand together, to where the last one is. */
function endsOf(places: readonly number[], length: number): number[] {
  const ends = places.map((_, index) => places[index + 1] ?? length);
  let next = length;
  for (let index = places.length - 1; index >= 0; index--) {
    if (ends[index] === (places[index] as number) + 1) ends[index] = next;
    next = ends[index] as number;
  }
  return ends;
}

function feedsOf(seen: readonly Range[], shape: readonly [number, number]): Feeds {
  const flags = (isSet: (range: Range) => boolean): Feeds[string] => ({
    data: Float32Array.from(seen, (range) => (isSet(range) ? 1 : 0)),
    shape: [seen.length, 1],
  });
  return {
    "cross-reach": {
      data: Float32Array.from(seen, (range) => (typeof range === "object" ? range.last : padding)),
      shape,
    },
    "cross-floor": { data: Float32Array.from(seen, (range) => (typeof range === "object" ? range.first : 0)), shape },
    "row-has-pictures": flags((range) => range !== "none"),
    "token-sees": flags((range) => typeof range === "object"),
  };
}

function keyOrder(config: MllamaVisionConfig, batch: ModelBatch): Feeds[string] {
  const tile = 1 + config.side ** 2;
  const picture = keysOfPicture(config);
  const most = mostPictures(batch);
  const order = new Float32Array(batch.batchSize * most * picture).fill(nothing);
  for (const { row, index, tiles } of placed(batch)) {
    const start = (row * most + index) * picture;
    order.fill(index, start, start + tiles * tile);
    order.fill(padding, start + tiles * tile, start + picture);
  }
  return { data: order, shape: [batch.batchSize, most * picture] };
}

/** `[I]`: where each picture goes among C places of each row. */
function pictureSlots(batch: ModelBatch): Feeds[string] {
  const most = mostPictures(batch);
  const slots = BigInt64Array.from(placed(batch), ({ row, index }) => BigInt(row * most + index));
  return { data: slots, shape: [slots.length] };
}

/** Each picture with its number in its row. */
function placed({ pictures }: ModelBatch): { row: number; index: number; tiles: number }[] {
  const next = new Map<number, number>();
  return pictures.map(({ row, grid }) => {
    const index = next.get(row) ?? 0;
    next.set(row, index + 1);
    return { row, index, tiles: grid.time };
  });
}

function picturesByRow({ pictures, batchSize }: Pick<ModelBatch, "pictures" | "batchSize">): number[] {
  const counts = Array.from({ length: batchSize }, () => 0);
  for (const { row } of pictures) counts[row] = (counts[row] ?? 0) + 1;
  return counts;
}

function mostPictures(batch: Pick<ModelBatch, "pictures" | "batchSize">): number {
  return Math.max(...picturesByRow(batch));
}
