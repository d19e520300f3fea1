import { gradient } from "../graph/gradient.ts";
import type { Node } from "../graph/ops.ts";
import { forwardGraph, type ForwardGraph } from "../models/qwen3-vl/graph.ts";
import type { Qwen3VlConfig } from "../models/qwen3-vl/config.ts";
import type { LoraPlacement } from "../models/variables.ts";
import type { Feeds } from "../models/qwen3-vl/inputs.ts";
import type { ModelBatch } from "../batch/model-batch.ts";

/** Forward, loss and backward of one micro-batch as one graph: outputs `loss` (a sum) and `gradient:<name>`. */
export interface TrainingGraph {
  readonly forward: ForwardGraph;
  readonly outputs: Readonly<Record<string, Node>>;
}

export function trainingGraph(
  config: Qwen3VlConfig,
  hasImages: boolean,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
): TrainingGraph {
  const forward = forwardGraph(config, { hasImages, isTrained, lora });
  const { graph, variables } = forward;
  const logits = forward.logits("given");
  const loss = graph.crossEntropySum(
    logits,
    graph.input("labels", ["L"], "int64"),
    graph.input("safe-labels", ["L", 1], "int64"),
    graph.input("keep", ["L", 1]),
  );
  const outputs: Record<string, Node> = { loss };
  const names = [...variables.trained.keys()];
  gradient(graph, loss, [...variables.trained.values()]).forEach(
    (node, index) => (outputs[`gradient:${names[index]}`] = node),
  );
  return { forward, outputs };
}

/** Feeds of the loss: the rows that have a label, and the labels. */
export function lossFeeds(batch: ModelBatch): { feeds: Feeds; tokens: number } {
  const rows: number[] = [];
  batch.labels.forEach((label, row) => {
    if (label >= 0) rows.push(row);
  });
  const labels = BigInt64Array.from(rows, (row) => BigInt(batch.labels[row] as number));
  const tokens = rows.length;
  return {
    tokens,
    feeds: {
      rows: { data: BigInt64Array.from(rows, BigInt), shape: [tokens] },
      labels: { data: labels, shape: [tokens] },
      "safe-labels": { data: labels, shape: [tokens, 1] },
      keep: { data: new Float32Array(tokens).fill(1), shape: [tokens, 1] },
    },
  };
}
