import { masked, quickGeluAlpha, type Node } from "../ops.ts";
import { encodeChunks } from "./encode-chunks.ts";
import { encodeInverse } from "./encode-inverse.ts";
import { encodeLinearScan } from "./encode-linear-scan.ts";
import { encodeDequantize, encodeQuantizedMatMul } from "./encode-quantized.ts";
import type { Encoder, Encoding, Encodings } from "./encoder.ts";
import { toFloat32, type PlainNode } from "./plain-node.ts";

function same(type: string, extra: Omit<PlainNode, "type" | "inputs" | "outputs"> = {}): Encoding {
  return (node, encoder, inputs) => encoder.plain({ type, inputs, outputs: [encoder.name(node)], ...extra });
}

const leaf: Encoding = (node, encoder) => encoder.addInput(node);

const reduction =
  (type: string): Encoding =>
  (node, encoder, [x]) => {
    const axes = encoder.integers(node.attributes["axes"] as readonly number[]);
    encoder.plain({
      type,
      inputs: [x as string, axes],
      outputs: [encoder.name(node)],
      integers: { keepdims: node.attributes["keepDimensions"] ? 1 : 0 },
    });
  };

const matrix =
  (type: string, domain?: string): Encoding =>
  (node, encoder, inputs) => {
    const { transA, transB, alpha } = node.attributes as { transA: boolean; transB: boolean; alpha: number };
    encoder.product({
      type,
      ...(domain ? { domain } : {}),
      inputs,
      outputs: [encoder.name(node)],
      integers: { transA: Number(transA), transB: Number(transB) },
      floats: { alpha },
    });
  };

/** `[n]` indices as `[n, 1]`, which ScatterND wants. */
function rowIndices(node: Node, encoder: Encoder): string {
  const indices = node.inputs[1] as Node;
  const name = `${encoder.name(indices)}:rows`;
  const output = `${name}:${node.id}`;
  encoder.plain({ type: "Unsqueeze", inputs: [encoder.name(indices), encoder.integers([1])], outputs: [output] });
  return output;
}

const scatter =
  (reductionName: "none" | "add"): Encoding =>
  (node, encoder, [data, , rows]) =>
    encoder.plain({
      type: "ScatterND",
      inputs: [data as string, rowIndices(node, encoder), rows as string],
      outputs: [encoder.name(node)],
      texts: { reduction: reductionName },
    });

/** One encoding per op. */
export const opEncodings: Encodings = {
  Input: leaf,
  Parameter: leaf,
  Weight: (node, encoder) => encoder.addWeight(node),
  Constant: (node, encoder) => encoder.floats(encoder.name(node), node.shape, node.data as Float32Array),
  Fill: (node, encoder) => {
    const value = `${encoder.name(node)}:value`;
    encoder.floats(value, [], Float32Array.of(node.attributes["value"] as number));
    encoder.plain({
      type: "Expand",
      inputs: [value, node.shape.length === 0 ? encoder.integers([]) : encoder.shape(node.shape)],
      outputs: [encoder.name(node)],
    });
  },
  Output: () => undefined, // its node has named it already
  Add: same("Add"),
  Sub: same("Sub"),
  Mul: same("Mul"),
  Neg: same("Neg"),
  Exp: same("Exp"),
  Sigmoid: same("Sigmoid"),
  Tanh: same("Tanh"),
  Softplus: same("Softplus"),
  Rsqrt: (node, encoder, [x]) => {
    const root = `${encoder.name(node)}:root`;
    encoder.plain({ type: "Sqrt", inputs: [x as string], outputs: [root] });
    encoder.plain({ type: "Reciprocal", inputs: [root], outputs: [encoder.name(node)] });
  },
  Detach: same("Identity"),
  Erf: same("Erf"),
  Silu: same("QuickGelu", { domain: "com.microsoft", floats: { alpha: 1 } }),
  QuickGelu: same("QuickGelu", { domain: "com.microsoft", floats: { alpha: quickGeluAlpha } }),
  Gelu: same("Gelu"),
  GeluTanh: same("Gelu", { texts: { approximate: "tanh" } }),
  Gemm: matrix("Gemm"),
  FusedMatMul: matrix("FusedMatMul", "com.microsoft"),
  QuantizedMatMul: encodeQuantizedMatMul,
  Dequantize: encodeDequantize,
  ReduceSum: reduction("ReduceSum"),
  ReduceMean: reduction("ReduceMean"),
  Softmax: same("Softmax", { integers: { axis: -1 } }),
  RmsNorm: (node, encoder, inputs) =>
    encoder.plain({
      type: "SimplifiedLayerNormalization",
      inputs,
      outputs: encoder.names(node),
      integers: { axis: -1 },
      floats: { epsilon: node.attributes["epsilon"] as number },
    }),
  LayerNormalization: (node, encoder, inputs) =>
    encoder.plain({
      type: "LayerNormalization",
      inputs,
      outputs: encoder.names(node),
      integers: { axis: -1 },
      floats: { epsilon: node.attributes["epsilon"] as number },
    }),
  CrossEntropySum: (node, encoder, [logits, labels]) =>
    encoder.plain({
      type: "SoftmaxCrossEntropyLoss",
      inputs: [logits as string, labels as string],
      outputs: encoder.names(node),
      integers: { ignore_index: -100 },
      texts: { reduction: "sum" },
    }),
  Reshape: (node, encoder, [x]) =>
    encoder.plain({
      type: "Reshape",
      inputs: [x as string, node.shape.length === 0 ? encoder.integers([]) : encoder.shape(node.shape)],
      outputs: [encoder.name(node)],
      integers: { allowzero: 1 },
    }),
  Transpose: (node, encoder, inputs) =>
    encoder.plain({
      type: "Transpose",
      inputs,
      outputs: [encoder.name(node)],
      lists: { perm: node.attributes["permutation"] as readonly number[] },
    }),
  Expand: (node, encoder, [x]) =>
    encoder.plain({ type: "Expand", inputs: [x as string, encoder.shape(node.shape)], outputs: [encoder.name(node)] }),
  Concat: (node, encoder, inputs) =>
    encoder.plain({
      type: "Concat",
      inputs,
      outputs: [encoder.name(node)],
      integers: { axis: node.attributes["axis"] as number },
    }),
  Split: (node, encoder, [x]) =>
    encoder.plain({
      type: "Split",
      inputs: [x as string, encoder.integers(node.attributes["sizes"] as readonly number[])],
      outputs: encoder.names(node),
      integers: { axis: node.attributes["axis"] as number },
    }),
  Gather: (node, encoder, [table, indices]) => {
    const stored = encoder.storedIn16Bits(node.inputs[0] as Node);
    const name = encoder.name(node);
    const rows = stored ? `${name}:stored` : name;
    encoder.plain({
      type: "Gather",
      inputs: [stored ?? (table as string), indices as string],
      outputs: [rows],
      integers: { axis: 0 },
    });
    if (stored) encoder.plain(toFloat32(rows, name));
  },
  ScatterRows: scatter("none"),
  AddRows: scatter("add"),
  AddElements: same("ScatterElements", { integers: { axis: -1 }, texts: { reduction: "add" } }),
  RotaryEmbedding: same("RotaryEmbedding"),
  MaskBelow: (node, encoder, inputs) => {
    const name = encoder.name(node);
    for (const [constant, value] of [
      ["masked", masked],
      ["seen", 0],
    ] as const)
      encoder.floats(constant, [], Float32Array.of(value));
    encoder.plain({ type: "GreaterOrEqual", inputs, outputs: [`${name}:seen`] });
    encoder.plain({ type: "Where", inputs: [`${name}:seen`, "seen", "masked"], outputs: [name] });
  },
  Chunks: (node, encoder, inputs) => encodeChunks(node, encoder, inputs),
  InverseUnitLower: (node, encoder, [lower]) => encodeInverse(node, encoder, lower as string),
  LinearScan: (node, encoder, inputs) => encodeLinearScan(node, encoder, inputs),
};
