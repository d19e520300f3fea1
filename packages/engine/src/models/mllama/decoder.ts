/*
 * The decoder of Mllama: Llama layers, some of them replaced by layers that look at pictures. Batches without pictures go past
 * the latter.
 * Source: `MllamaTextModel` of `modeling_mllama.py`, huggingface/transformers 5.23.
 */
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import type { CacheSlot } from "../model.ts";
import type { LayerCache } from "../parts/key-value-cache.ts";
import { decoderLayer, decoderPath, embeddedTokens, type TextInputs } from "../parts/text-decoder.ts";
import type { Variables } from "../variables.ts";
import type { MllamaConfig } from "./config.ts";
import { crossAttentionLayer, pictureKeys, type SeenPictures } from "./cross-attention.ts";
import { keysOfPicture, sightInputs, sightSymbols } from "./sight.ts";

export interface MllamaOutput {
  /** `[B·T, D]` before the final norm. */
  readonly hidden: Node;
  /** What this call adds to the cache, by slot. */
  readonly cache: ReadonlyMap<string, Node>;
  /** `[B·T, D]` after each layer: where the graph may be cut. */
  readonly layers: readonly Node[];
}

/** What the layers that look at pictures are given: features, or with a cache the keys made of them; null = no pictures. */
export type Pictures = SeenPictures | "cached" | null;

export function mllamaDecoder(
  variables: Variables,
  config: MllamaConfig,
  inputs: TextInputs,
  pictures: Pictures,
  hasCache: boolean,
): MllamaOutput {
  const { graph } = variables;
  const { text, vision } = config;
  const sight = pictures ? sightInputs(graph, vision) : null;
  const keys = keysOfPicture(vision);
  let x = embeddedTokens(variables, { ...text, vocabularySize: config.embeddingRows }, inputs.inputIds, null);
  const cache = new Map<string, Node>();
  const layers: Node[] = [];
  for (let index = 0; index < text.layers; index++) {
    const path = `${decoderPath}.layers.${index}`;
    x = graph.within(`layers.${index}`, () => {
      if (!config.crossLayers.has(index)) {
        const added: LayerCache[] = [];
        const past = hasCache ? pastOf(graph, config, index, "S") : null;
        const y = decoderLayer(variables, text, path, x, inputs, past, added);
        for (const { key, value } of added) cache.set(`${index}.key`, key).set(`${index}.value`, value);
        return y;
      }
      if (!sight || pictures === null) return passedBy(graph, x);
      if (pictures === "cached")
        return crossAttentionLayer(variables, text, path, x, pastOf(graph, config, index, product(["C", keys])), sight);
      const seen = pictureKeys(variables, text, path, pictures, keys);
      cache.set(`${index}.key`, seen.key).set(`${index}.value`, seen.value);
      return crossAttentionLayer(variables, text, path, x, seen, sight);
    });
    layers.push(x);
  }
  return { hidden: x, cache, layers };
}

/** Slots of all layers: those that look at pictures keep what the first pass made of them. */
export function mllamaSlots({ text, vision, crossLayers }: MllamaConfig): CacheSlot[] {
  const { layers, keyValueHeads, headSize } = text;
  return Array.from({ length: layers }, (_, layer) =>
    ["key", "value"].map((part): CacheSlot => ({
      name: `${layer}.${part}`,
      ...(crossLayers.has(layer)
        ? {
            kind: "kept",
            shape: (batch) => [keyValueHeads, (sightSymbols(batch)["C"] as number) * keysOfPicture(vision), headSize],
          }
        : { kind: "grows", shape: () => [keyValueHeads, headSize] }),
    })),
  ).flat();
}

function pastOf(graph: GraphBuilder, { text }: MllamaConfig, layer: number, length: Dimension): LayerCache {
  const shape = ["B", text.keyValueHeads, length, text.headSize];
  return { key: graph.input(`past.${layer}.key`, shape), value: graph.input(`past.${layer}.value`, shape) };
}

/** The same values as a node of their own: the graph is cut behind every layer, also where a batch goes past it. */
function passedBy(graph: GraphBuilder, x: Node): Node {
  const [, width] = x.shape as [Dimension, Dimension];
  return graph.reshape(graph.reshape(x, ["B", "T", width]), x.shape);
}
