import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import type { CacheSlot } from "../model.ts";
import type { DecoderConfig } from "./decoder-config.ts";

/** Keys and values of one layer, `[B, K, tokens, d]`, keys after the rotary embedding. */
export interface LayerCache {
  readonly key: Node;
  readonly value: Node;
}

type Sizes = Pick<DecoderConfig, "layers" | "keyValueHeads" | "headSize">;

/** The slots `<layer>.key` and `<layer>.value`. */
export function keyValueSlots({ layers, keyValueHeads, headSize }: Sizes): CacheSlot[] {
  return Array.from({ length: layers }, (_, layer) =>
    ["key", "value"].map((part): CacheSlot => ({
      name: `${layer}.${part}`,
      kind: "grows",
      shape: () => [keyValueHeads, headSize],
    })),
  ).flat();
}

/** The inputs `past.<layer>.key` and `past.<layer>.value` `[B, K, S, d]`. */
export function keyValueInputs(graph: GraphBuilder, { layers, keyValueHeads, headSize }: Sizes): LayerCache[] {
  const shape = ["B", keyValueHeads, "S", headSize];
  return Array.from({ length: layers }, (_, layer) => ({
    key: graph.input(`past.${layer}.key`, shape),
    value: graph.input(`past.${layer}.value`, shape),
  }));
}

/** What a pass adds, by slot. */
export function namedCache(cache: readonly LayerCache[]): Map<string, Node> {
  return new Map(
    cache.flatMap(({ key, value }, layer): [string, Node][] => [
      [`${layer}.key`, key],
      [`${layer}.value`, value],
    ]),
  );
}
