import { describe, expect, test } from "vitest";
import { gradientError, type GradientCase } from "../../test/check-gradient.ts";
import { GraphBuilder } from "./build.ts";
import { gradients } from "./gradients.ts";
import { inChunks } from "./chunks.ts";
import { ops } from "./ops.ts";
import { chunkDimensions } from "./shape.ts";
import { topologicalOrder } from "./topological-order.ts";

const labels = { values: [2, 0, -100, 1], shape: [4] };
const safe = { values: [2, 0, 0, 1], shape: [4, 1] };
const rows = { values: [3, 0, 3], shape: [3] };
const distinctRows = { values: [3, 0], shape: [2] };

/** One line an op and case: what is differentiated, with the shapes that make its rule work hard. */
const cases: Readonly<Record<string, GradientCase>> = {
  "Add of equal shapes": {
    shapes: [
      [2, 3],
      [2, 3],
    ],
    build: (g, [a, b]) => g.add(a!, b!),
  },
  "Add of broadcast shapes": {
    shapes: [
      [2, 1, 3],
      [4, 1],
    ],
    build: (g, [a, b]) => g.add(a!, b!),
  },
  "Add of a node to itself": { shapes: [[2, 3]], build: (g, [a]) => g.add(a!, g.mul(a!, a!)) },
  "Sub of broadcast shapes": { shapes: [[2, 3], [3]], build: (g, [a, b]) => g.sub(a!, b!) },
  "Mul of broadcast shapes": {
    shapes: [
      [2, 3],
      [1, 3],
    ],
    build: (g, [a, b]) => g.mul(a!, b!),
  },
  "Mul by a scalar": { shapes: [[2, 3], []], build: (g, [a, b]) => g.mul(a!, b!) },
  Neg: { shapes: [[5]], build: (g, [a]) => g.unary("Neg", a!) },
  Exp: { shapes: [[5]], build: (g, [a]) => g.unary("Exp", a!) },
  Sigmoid: { shapes: [[5]], build: (g, [a]) => g.unary("Sigmoid", a!) },
  Tanh: { shapes: [[5]], build: (g, [a]) => g.unary("Tanh", a!) },
  Erf: { shapes: [[5]], build: (g, [a]) => g.unary("Erf", a!) },
  Rsqrt: { shapes: [[5]], build: (g, [a]) => g.unary("Rsqrt", g.add(g.mul(a!, a!), g.scalar(0.5))) },
  Softplus: { shapes: [[7]], build: (g, [a]) => g.unary("Softplus", a!) },
  "Split into parts of different sizes, one of them unused": {
    shapes: [[2, 6]],
    build: (g, [a]) => {
      const [x, , y] = g.split(a!, 1, [1, 3, 2]);
      return g.concat([y!, x!], 1);
    },
  },
  "InverseUnitLower of strictly lower matrices": {
    shapes: [[2, 4, 4]],
    build: (g, [a]) => {
      const ones = Array.from({ length: 16 }, (_, index) => (Math.floor(index / 4) > index % 4 ? 1 : 0));
      return g.inverseUnitLower(g.mul(a!, g.constant(ones, [4, 4])));
    },
  },
  "LinearScan, states and the last": {
    shapes: [
      [3, 2, 2, 2],
      [3, 2, 2, 4],
      [2, 2, 4],
    ],
    build: (g, [a, b, c]) => {
      const [states, last] = g.linearScan(a!, b!, c!);
      return g.add(g.reduceSum(states, [0], false), last);
    },
  },
  "LinearScan, reversed and transposed": {
    shapes: [
      [3, 2, 2, 2],
      [3, 2, 2, 4],
      [2, 2, 4],
    ],
    build: (g, [a, b, c]) => g.linearScan(a!, b!, c!, { reverse: true, transA: true })[0],
  },
  Silu: { shapes: [[7]], build: (g, [a]) => g.unary("Silu", a!) },
  QuickGelu: { shapes: [[7]], build: (g, [a]) => g.unary("QuickGelu", a!) },
  Gelu: { shapes: [[7]], build: (g, [a]) => g.unary("Gelu", a!) },
  GeluTanh: { shapes: [[7]], build: (g, [a]) => g.unary("GeluTanh", a!) },
  "Gemm with a bias": { shapes: [[2, 3], [3, 4], [4]], build: (g, [a, b, c]) => g.gemm(a!, b!, { c: c!, alpha: 0.5 }) },
  "Gemm with a residual, B transposed": {
    shapes: [
      [2, 3],
      [4, 3],
      [2, 4],
    ],
    build: (g, [a, b, c]) => g.gemm(a!, b!, { transB: true, c: c! }),
  },
  "Gemm, A transposed": {
    shapes: [
      [3, 2],
      [3, 4],
    ],
    build: (g, [a, b]) => g.gemm(a!, b!, { transA: true }),
  },
  "Gemm, both transposed": {
    shapes: [
      [3, 2],
      [4, 3],
    ],
    build: (g, [a, b]) => g.gemm(a!, b!, { transA: true, transB: true, alpha: 2 }),
  },
  QuantizedMatMul: {
    shapes: [[3, 32]],
    frozen: {
      packed: { data: Uint8Array.from({ length: 96 }, (_, index) => index * 37), shape: [3, 2, 16] },
      scales: { data: Float32Array.of(0.1, -0.2, 0.3, 0.1, 0.05, 0.2), shape: [3, 2] },
    },
    build: (g, [x]) =>
      g.quantizedMatMul(x!, g.weight("packed", [3, 2, 16], "uint8"), g.weight("scales", [3, 2]), {
        format: "int8",
        blockSize: 16,
        in: 32,
        out: 3,
      }),
  },
  FusedMatMul: {
    shapes: [
      [2, 3, 4],
      [2, 4, 5],
    ],
    build: (g, [a, b]) => g.matMul(a!, b!, { alpha: 0.3 }),
  },
  "FusedMatMul, B transposed": {
    shapes: [
      [2, 3, 4],
      [2, 5, 4],
    ],
    build: (g, [a, b]) => g.matMul(a!, b!, { transB: true }),
  },
  "FusedMatMul, both transposed": {
    shapes: [
      [2, 4, 3],
      [2, 5, 4],
    ],
    build: (g, [a, b]) => g.matMul(a!, b!, { transA: true, transB: true }),
  },
  "ReduceSum that drops axes": { shapes: [[2, 3, 4]], build: (g, [a]) => g.reduceSum(a!, [0, 2], false) },
  "ReduceMean that keeps axes": { shapes: [[2, 3, 4]], build: (g, [a]) => g.reduceMean(a!, [1], true) },
  Softmax: { shapes: [[3, 5]], build: (g, [a]) => g.softmax(a!) },
  RmsNorm: { shapes: [[2, 3, 6], [6]], build: (g, [a, w]) => g.rmsNorm(a!, w!, 1e-6) },
  LayerNormalization: { shapes: [[4, 6], [6], [6]], build: (g, [a, w, b]) => g.layerNorm(a!, w!, b!, 1e-6) },
  "CrossEntropySum with an ignored row": {
    shapes: [
      [4, 3],
      [4, 1],
    ],
    integers: { labels, safe },
    build: (g, [logits], integer) =>
      g.crossEntropySum(logits!, integer("labels"), integer("safe"), g.constant([1, 1, 0, 1], [4, 1])),
  },
  Reshape: { shapes: [[2, 6]], build: (g, [a]) => g.reshape(g.mul(a!, a!), [3, 4]) },
  Transpose: { shapes: [[2, 3, 4]], build: (g, [a]) => g.transpose(a!, [2, 0, 1]) },
  Expand: { shapes: [[2, 1]], build: (g, [a]) => g.expand(a!, [3, 2, 4]) },
  "Concat of equal parts": {
    shapes: [
      [2, 3],
      [2, 3],
    ],
    build: (g, [a, b]) => g.concat([a!, g.mul(a!, b!), b!], 1),
  },
  "Split with one part unused": {
    shapes: [[3, 2]],
    build: (g, [a]) => {
      const [first, , last] = g.split(a!, 0, 3);
      return g.mul(first!, last!);
    },
  },
  "Gather with a row taken twice": {
    shapes: [[4, 3]],
    integers: { rows },
    build: (g, [a], integer) => g.gather(a!, integer("rows")),
  },
  ScatterRows: {
    shapes: [
      [4, 3],
      [2, 3],
    ],
    integers: { distinctRows },
    build: (g, [a, b], integer) => g.scatterRows(g.mul(a!, a!), integer("distinctRows"), b!),
  },
  "AddRows with a row hit twice": {
    shapes: [
      [4, 3],
      [3, 3],
    ],
    integers: { rows },
    build: (g, [a, b], integer) => g.addRows(a!, integer("rows"), b!),
  },
  AddElements: {
    shapes: [
      [4, 3],
      [4, 1],
    ],
    integers: { safe },
    build: (g, [a, b], integer) => g.addElements(g.mul(a!, a!), integer("safe"), g.fill(2, b!.shape)),
  },
  RotaryEmbedding: {
    shapes: [[2, 3, 4, 8]],
    build: (g, [a]) => g.rotaryEmbedding(a!, g.fill(0.8, [2, 4, 4]), g.fill(-0.6, [2, 4, 4])),
  },
  MaskBelow: {
    shapes: [[3, 4]],
    build: (g, [a]) => g.softmax(g.add(a!, g.maskBelow(g.constant([0, 2, 3], [3, 1]), g.constant([0, 1, 2, 3], [4])))),
  },
  "Chunks of an axis that does not come out even, with a whole input and a sum": {
    shapes: [["T", 3], [3, 2], ["T"]],
    symbols: { T: 5 },
    build: (g, [a, w, c]) => {
      const [joined, summed] = inChunks(g, {
        cut: [
          { node: a!, axis: 0 },
          { node: c!, axis: 0 },
        ],
        whole: [w!],
        chunks: chunkDimensions("T", 3, 8),
        write: (inner, [piece, factor], [matrix]) => {
          const size = piece!.shape[0]!;
          const product = inner.unary("Tanh", inner.gemm(piece!, matrix!));
          const scaled = inner.mul(product, inner.reshape(factor!, [size, 1]));
          return {
            joined: [{ node: inner.transpose(scaled, [1, 0]), axis: 1 }],
            summed: [inner.reduceSum(inner.mul(scaled, scaled), [0], false)],
          };
        },
      });
      return g.add(g.transpose(joined!, [1, 0]), summed!);
    },
  },
  "symbols in the shapes": {
    shapes: [["B*T", 4], [4]],
    symbols: { B: 2, T: 3 },
    build: (g, [a, w]) => g.softmax(g.reshape(g.mul(a!, w!), ["B", "T", 4])),
  },
};

describe("gradients equal central differences", () => {
  test.each(Object.entries(cases))("%s", async (_name, example) => {
    expect(await gradientError(example)).toBeLessThan(2e-2);
  });
});

test("every op that can be differentiated has a case", () => {
  const graph = new GraphBuilder();
  const covered = new Set<string>();
  for (const { shapes, integers = {}, build } of Object.values(cases)) {
    const inputs = shapes.map((shape, index) => graph.parameter(`x${index}:${shape.join()}`, shape));
    const y = build(graph, inputs, (name) => graph.input(name, integers[name]?.shape ?? [], "int64"));
    for (const { op } of topologicalOrder([y])) covered.add(op);
  }
  const leaves = ["Input", "Parameter", "Weight", "Dequantize", "Constant", "Fill", "Output", "Detach"];
  expect(Object.keys(ops).filter((op) => !covered.has(op) && !leaves.includes(op))).toEqual([]);
  expect(Object.keys(gradients).sort()).toEqual(Object.keys(ops).sort());
});

test("a shape error names the op, the shapes and the layer", () => {
  const graph = new GraphBuilder();
  const [a, b] = [graph.input("a", [2, 3]), graph.input("b", [2, 4])];
  expect(() => graph.within("layers.4.attention", () => graph.gemm(a, b))).toThrow(
    "gemm: [2, 3] x [2, 4]: inner sizes 3 and 2 differ (layers.4.attention)",
  );
});

test("equal calls give the same node", () => {
  const graph = new GraphBuilder();
  const a = graph.input("a", [2]);
  expect(graph.add(a, a)).toBe(graph.add(a, a));
});
