import { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { Variables, type LoraPlacement } from "../variables.ts";
import type { Qwen3VlConfig } from "./config.ts";
import { logitsAt, textDecoder, type DecoderOutput, type ImagePlacement, type LayerCache } from "./text-decoder.ts";
import { visionTower } from "./vision-tower.ts";

export interface ForwardGraph {
  readonly graph: GraphBuilder;
  readonly variables: Variables;
  readonly output: DecoderOutput;
  /** What each block of the image tower gives; none without pictures. */
  readonly visionBlocks: readonly Node[];
  /** Logits `[L, vocabulary]` at the rows given as input `rows` `[L]`, or of all rows. */
  logits(rows: "all" | "given"): Node;
}

/** The forward graph of a model. Symbols: B, T, and with pictures I, Q, N; with a cache S (cached) and W (cached and new). */
export function forwardGraph(
  config: Qwen3VlConfig,
  options: {
    readonly hasImages: boolean;
    readonly hasCache?: boolean;
    readonly isTrained?: (name: string) => boolean;
    readonly lora?: LoraPlacement | null;
  },
): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { text } = config;
  const half = text.headSize / 2;
  const span = options.hasCache ? "W" : "T";
  const inputs = {
    inputIds: graph.input("ids", ["B*T"], "int64"),
    cos: graph.input("cos", ["B", "T", half]),
    sin: graph.input("sin", ["B", "T", half]),
    mask: graph.input("mask", ["B", 1, "T", span]),
  };
  const past = options.hasCache
    ? Array.from({ length: text.layers }, (_, index) => cacheInput(graph, config, index))
    : null;
  const image = options.hasImages ? imagePlacement(variables, config) : null;
  const output = textDecoder(variables, text, inputs, image, past);
  return {
    graph,
    variables,
    output,
    visionBlocks: image?.blocks ?? [],
    logits: (rows) =>
      logitsAt(variables, config, output.hidden, rows === "all" ? null : graph.input("rows", ["L"], "int64")),
  };
}

function cacheInput(graph: GraphBuilder, { text }: Qwen3VlConfig, index: number): LayerCache {
  const shape = ["B", text.keyValueHeads, "S", text.headSize];
  return { key: graph.input(`past.${index}.key`, shape), value: graph.input(`past.${index}.value`, shape) };
}

function imagePlacement(variables: Variables, { vision }: Qwen3VlConfig): ImagePlacement {
  const { graph } = variables;
  const block = vision.mergeSize ** 2;
  const rows = `${block}*I*Q`;
  const patchSize = vision.channels * vision.temporalPatchSize * vision.patchSize ** 2;
  const half = vision.hiddenSize / vision.heads / 2;
  const features = visionTower(variables, vision, {
    patches: graph.input("patches", [rows, patchSize]),
    positionTaps: graph.input("position-taps", [`${4 * block}*I*Q`], "int64"),
    positionWeights: graph.input("position-weights", [4, rows, 1]),
    cos: graph.input("vision-cos", ["I", `${block}*Q`, half]),
    sin: graph.input("vision-sin", ["I", `${block}*Q`, half]),
    mask: graph.input("vision-mask", ["I", 1, 1, `${block}*Q`]),
  });
  return {
    ...features,
    featureRows: graph.input("feature-rows", ["N"], "int64"),
    imageRows: graph.input("image-rows", ["N"], "int64"),
  };
}
