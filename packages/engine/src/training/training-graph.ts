import { gradient } from "../graph/gradient.ts";
import type { GraphBuilder } from "../graph/build.ts";
import type { Node } from "../graph/ops.ts";
import type { ForwardGraph } from "../models/model.ts";
import type { Model } from "../models/model.ts";
import type { ArrayLimits, LoraPlacement } from "../models/variables.ts";
import type { Feeds } from "../runtime/feeds.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import { crossEntropyWithin } from "./chunked-loss.ts";

/** Rows that go to a weight's gradient: output `output` `[n, D]`, added at the rows that the graph's input `indices` names. */
export interface RowGradient {
  readonly name: string;
  readonly output: string;
  readonly indices: string;
}

/**
 * Forward, loss and backward of one micro-batch as one graph: outputs `loss` (a sum), `gradient:<name>` for each weight
 * that is reached by more than looked-up rows, and the gradients of looked-up rows.
 */
export interface TrainingGraph {
  readonly forward: ForwardGraph;
  readonly outputs: Readonly<Record<string, Node>>;
  readonly rowGradients: readonly RowGradient[];
}

/**
 * @param adds  true: each `gradient:<name>` is added to the input `sum:<name>`, whose memory may be the output's
 */
export function trainingGraph(
  model: Model,
  hasImages: boolean,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
  adds = false,
  limits: ArrayLimits = {},
): TrainingGraph {
  const { forward, loss } = lossGraph(model, hasImages, isTrained, lora, limits);
  const { graph, variables } = forward;
  const names = [...variables.trained.keys()];
  const parts = gradient(graph, loss, [...variables.trained.values()]);
  const { outputs, rowGradients } = gradientOutputs(
    graph,
    parts.map((node, index) => [names[index] as string, node]),
    () => adds,
  );
  return { forward, outputs: { loss, ...outputs }, rowGradients };
}

/** Forward and loss (a sum over the rows that have a label) of one micro-batch. */
export function lossGraph(
  model: Model,
  hasImages: boolean,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
  limits: ArrayLimits = {},
): { readonly forward: ForwardGraph; readonly loss: Node } {
  const forward = model.forward({ hasImages, isTrained, lora, limits });
  const { graph } = forward;
  const labels = {
    labels: graph.input("labels", ["L"], "int64"),
    safe: graph.input("safe-labels", ["L", 1], "int64"),
    keep: graph.input("keep", ["L", 1]),
  };
  return { forward, loss: crossEntropyWithin(graph, forward.logits("given"), labels, limits.logits) };
}

/**
 * What a graph answers with for the gradients of its weights: `gradient:<name>` for those reached by more than looked-up
 * rows, and the rows of the others.
 *
 * @param adds  whether the gradient of a weight is added to the input `sum:<name>`
 */
export function gradientOutputs(
  graph: GraphBuilder,
  parts: readonly (readonly [string, Node])[],
  adds: (name: string) => boolean,
): Pick<TrainingGraph, "outputs" | "rowGradients"> {
  const outputs: Record<string, Node> = {};
  const rowGradients: RowGradient[] = [];
  for (const [name, node] of parts) {
    const { dense, rows } = splitRows(graph, node);
    if (dense)
      outputs[`gradient:${name}`] = adds(name) ? addTo(graph, graph.input(`sum:${name}`, node.shape), dense) : dense;
    rows.forEach(({ indices, values }, part) => {
      const output = `rows:${part}:${name}`;
      outputs[output] = values;
      rowGradients.push({ name, output, indices: indices.attributes["name"] as string });
    });
  }
  return { outputs, rowGradients };
}

interface SplitGradient {
  /** Null where the gradient is rows alone, or zero. */
  readonly dense: Node | null;
  readonly rows: readonly { readonly indices: Node; readonly values: Node }[];
}

/**
 * Takes the scattered rows out of the gradient of a table. A table is large and a batch looks few of its rows up; and ONNX
 * Runtime adds rows that have the same index on several threads at once, which loses some now and then.
 */
function splitRows(graph: GraphBuilder, node: Node): SplitGradient {
  if (node.op === "Fill" && node.attributes["value"] === 0) return { dense: null, rows: [] };
  if (node.op === "AddRows") {
    const [data, indices, values] = node.inputs as readonly [Node, Node, Node];
    if (indices.op !== "Input") return { dense: node, rows: [] };
    const { dense, rows } = splitRows(graph, data);
    return { dense, rows: [...rows, { indices, values }] };
  }
  if (node.op !== "Add") return { dense: node, rows: [] };
  const [a, b] = node.inputs.map((input) => splitRows(graph, input)) as [SplitGradient, SplitGradient];
  if (a.rows.length + b.rows.length === 0) return { dense: node, rows: [] };
  return {
    dense: a.dense && b.dense ? graph.add(a.dense, b.dense) : (a.dense ?? b.dense),
    rows: [...a.rows, ...b.rows],
  };
}

/** sum + part; a matrix product adds by itself. */
export function addTo(graph: GraphBuilder, sum: Node, part: Node): Node {
  const [a, b, c] = part.inputs;
  if (part.op !== "Gemm" || !a || !b || c) return graph.add(sum, part);
  return graph.gemm(a, b, { ...(part.attributes as { transA: boolean; transB: boolean; alpha: number }), c: sum });
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
