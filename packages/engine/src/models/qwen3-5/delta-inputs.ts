import type { ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import type { Feeds, Symbols } from "../../runtime/feeds.ts";

/** Tokens of a chunk: what the reference takes. */
export const chunkSize = 64;

/** What a DeltaNet layer needs to know of the tokens of a batch. Symbols: B rows, T tokens, C chunks of a row. */
export interface DeltaInputs {
  /** `[B·T, 1]`: 1 for tokens, 0 for padding. */
  readonly tokens: Node;
  /** By how many tokens back, from 1: where the token so far back is, `[B·T]` int64, and 0 where there is none, `[B·T, 1]`. */
  readonly back: readonly { readonly rows: Node; readonly isThere: Node }[];
  /** `[B·T]` int64: places among the `B·C·64` of the chunks. */
  readonly places: Node;
  /** The last tokens of each row, oldest first, as many as the convolution looks back: `[B·k]` int64, and `[B·k, 1]`. */
  readonly last: { readonly rows: Node; readonly isThere: Node };
}

export function deltaInputs(graph: GraphBuilder, kernel: number): DeltaInputs {
  const before = kernel - 1;
  return {
    tokens: graph.input("is-token", ["B*T", 1]),
    back: Array.from({ length: before }, (_, index) => ({
      rows: graph.input(`back-${index + 1}`, ["B*T"], "int64"),
      isThere: graph.input(`has-back-${index + 1}`, ["B*T", 1]),
    })),
    places: graph.input("chunk-places", ["B*T"], "int64"),
    last: {
      rows: graph.input("last-rows", [`${before === 1 ? "" : `${before}*`}B`], "int64"),
      isThere: graph.input("has-last", [`${before === 1 ? "" : `${before}*`}B`, 1]),
    },
  };
}

export function deltaSymbols({ sequenceLength }: ModelBatch): Symbols {
  return { C: Math.ceil(sequenceLength / chunkSize) };
}

export function deltaFeeds(batch: ModelBatch, kernel: number): Feeds {
  const { batchSize, sequenceLength: tokens, attentionMask } = batch;
  const rows = batchSize * tokens;
  const chunked = Math.ceil(tokens / chunkSize) * chunkSize;
  const column = (isOne: (row: number, token: number) => boolean): Feeds[string] => ({
    data: Float32Array.from({ length: rows }, (_, at) => Number(isOne(Math.floor(at / tokens), at % tokens))),
    shape: [rows, 1],
  });
  const feeds: Feeds = {
    "is-token": { data: Float32Array.from(attentionMask), shape: [rows, 1] },
    "chunk-places": {
      data: BigInt64Array.from({ length: rows }, (_, at) => BigInt(Math.floor(at / tokens) * chunked + (at % tokens))),
      shape: [rows],
    },
    ...lastFeeds(batch, kernel - 1),
  };
  for (let back = 1; back < kernel; back++) {
    // Each row is turned round by so much: every token is named once, so that gradients of rows never meet.
    feeds[`back-${back}`] = {
      data: BigInt64Array.from({ length: rows }, (_, at) => {
        const token = at % tokens;
        return BigInt(at - token + ((token - back + tokens * back) % tokens));
      }),
      shape: [rows],
    };
    feeds[`has-back-${back}`] = column((_row, token) => token >= back);
  }
  return feeds;
}

function lastFeeds({ batchSize, sequenceLength, attentionMask }: ModelBatch, count: number): Feeds {
  const rows = new BigInt64Array(batchSize * count);
  const isThere = new Float32Array(batchSize * count);
  for (let row = 0; row < batchSize; row++) {
    const length = attentionMask
      .subarray(row * sequenceLength, (row + 1) * sequenceLength)
      .reduce((sum, bit) => sum + bit, 0);
    for (let index = 0; index < count; index++) {
      const token = length - count + index;
      rows[row * count + index] = BigInt(row * sequenceLength + Math.max(token, 0));
      isThere[row * count + index] = Number(token >= 0);
    }
  }
  return {
    "last-rows": { data: rows, shape: [rows.length] },
    "has-last": { data: isThere, shape: [rows.length, 1] },
  };
}
