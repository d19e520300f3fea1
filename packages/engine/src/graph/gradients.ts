import type { GradientRule } from "./gradient-rule.ts";
import type { GraphBuilder } from "./build.ts";
import { chunksGradient } from "./chunks-gradient.ts";
import { quickGeluAlpha, type Node, type Op } from "./ops.ts";
import { product } from "./shape.ts";
import type { QuantizedLayout } from "../quantization/formats.ts";

const none: GradientRule = (_graph, _dy, y) => y.inputs.map(() => null);

/** Inputs of a node as a tuple: the one place where "this op has so many inputs" is trusted. */
function inputsOf(y: Node): [Node, Node, Node] {
  return y.inputs as unknown as [Node, Node, Node];
}

/**
 * S′ = A·S + B: with λ the gradient of S′, dB = λ, dA = λ·Sᵀ, and that of S is what its readers send and Aᵀ·λ: the same
 * recurrence the other way.
 */
const linearScanGradient: GradientRule = (g, _dy, y, [states = null, last = null]) => {
  const [a, b, first] = inputsOf(y);
  const { reverse, transA } = y.attributes as { reverse: boolean; transA: boolean };
  const [lambda, ofFirst] = g.linearScan(a, states ?? g.fill(0, b.shape), last ?? g.fill(0, first.shape), {
    reverse: !reverse,
    transA: !transA,
  });
  const ofA = transA ? g.matMul(y, lambda, { transB: true }) : g.matMul(lambda, y, { transB: true });
  return [ofA, lambda, ofFirst];
};

/** One rule per op. Formulas: docs/architecture of the engine; each is checked against finite differences. */
export const gradients: { readonly [O in Op]: GradientRule } = {
  Input: none,
  Parameter: none,
  Weight: none,
  Constant: none,
  Fill: none,
  Output: none, // the walk hands these to the node they belong to

  Add: (g, dy, y) => y.inputs.map((input) => g.sumTo(dy, input.shape)),
  Sub: (g, dy, y) => {
    const [a, b] = inputsOf(y);
    return [g.sumTo(dy, a.shape), g.unary("Neg", g.sumTo(dy, b.shape))];
  },
  Mul: (g, dy, y) => {
    const [a, b] = inputsOf(y);
    return [g.sumTo(g.mul(dy, b), a.shape), g.sumTo(g.mul(dy, a), b.shape)];
  },
  Neg: (g, dy) => [g.unary("Neg", dy)],
  Exp: (g, dy, y) => [g.mul(dy, y)],
  Sigmoid: (g, dy, y) => [g.mul(dy, g.mul(y, g.sub(g.scalar(1), y)))],
  Tanh: (g, dy, y) => [g.mul(dy, g.sub(g.scalar(1), g.mul(y, y)))],
  Rsqrt: (g, dy, y) => [g.mul(dy, g.mul(g.mul(y, g.mul(y, y)), g.scalar(-0.5)))],
  Detach: none,
  Softplus: (g, dy, y) => [g.mul(dy, g.unary("Sigmoid", inputsOf(y)[0]))],
  // 2/√π · e^(−x²)
  Erf: (g, dy, y) => {
    const [x] = inputsOf(y);
    return [g.mul(dy, g.mul(g.scalar(2 / Math.sqrt(Math.PI)), g.unary("Exp", g.unary("Neg", g.mul(x, x)))))];
  },
  // y = x·σ: y' = σ + y(1 − σ)
  Silu: (g, dy, y) => {
    const [x] = inputsOf(y);
    const sigma = g.unary("Sigmoid", x);
    return [g.mul(dy, g.add(sigma, g.mul(y, g.sub(g.scalar(1), sigma))))];
  },
  // y = x·σ(αx): y' = σ + α·y(1 − σ)
  QuickGelu: (g, dy, y) => {
    const [x] = inputsOf(y);
    const sigma = g.unary("Sigmoid", g.mul(x, g.scalar(quickGeluAlpha)));
    const slope = g.mul(g.mul(y, g.scalar(quickGeluAlpha)), g.sub(g.scalar(1), sigma));
    return [g.mul(dy, g.add(sigma, slope))];
  },
  // Φ(x) + x·φ(x)
  Gelu: (g, dy, y) => {
    const [x] = inputsOf(y);
    const cumulative = g.add(g.mul(g.unary("Erf", g.mul(x, g.scalar(Math.SQRT1_2))), g.scalar(0.5)), g.scalar(0.5));
    const density = g.mul(g.unary("Exp", g.mul(g.mul(x, x), g.scalar(-0.5))), g.scalar(1 / Math.sqrt(2 * Math.PI)));
    return [g.mul(dy, g.add(cumulative, g.mul(x, density)))];
  },
  // y = x·σ, σ = sigmoid(2v), 2v = 2c(x + kx³): y' = σ + y(1 − σ)·2v'. Three operators fewer than by tanh
  GeluTanh: (g, dy, y) => {
    const [x] = inputsOf(y);
    const c = Math.sqrt(2 / Math.PI);
    const k = 0.044715;
    const square = g.mul(x, x);
    const sigma = g.unary("Sigmoid", g.mul(x, g.add(g.mul(square, g.scalar(2 * c * k)), g.scalar(2 * c))));
    const slope = g.add(g.mul(square, g.scalar(6 * c * k)), g.scalar(2 * c));
    return [g.mul(dy, g.add(sigma, g.mul(g.mul(y, g.sub(g.scalar(1), sigma)), slope)))];
  },

  Gemm: (g, dy, y) => {
    const [a, b] = inputsOf(y);
    const { transA, transB, alpha } = y.attributes as { transA: boolean; transB: boolean; alpha: number };
    const da = transA
      ? g.gemm(b, dy, { transA: transB, transB: true, alpha })
      : g.gemm(dy, b, { transB: !transB, alpha });
    const db = transB
      ? g.gemm(dy, a, { transA: true, transB: transA, alpha })
      : g.gemm(a, dy, { transA: !transA, alpha });
    const c = y.inputs[2];
    return c ? [da, db, g.sumTo(dy, c.shape)] : [da, db];
  },
  FusedMatMul: (g, dy, y) => {
    const [a, b] = inputsOf(y);
    const { transA, transB, alpha } = y.attributes as { transA: boolean; transB: boolean; alpha: number };
    const da = transA
      ? g.matMul(b, dy, { transA: transB, transB: true, alpha })
      : g.matMul(dy, b, { transB: !transB, alpha });
    const db = transB
      ? g.matMul(dy, a, { transA: true, transB: transA, alpha })
      : g.matMul(a, dy, { transA: !transA, alpha });
    return [da, db];
  },

  // The weight is frozen: only x gets a gradient, through the weight that the bytes stand for.
  QuantizedMatMul: (g, dy, y) => {
    const [, packed, scales] = inputsOf(y);
    const layout = y.attributes as unknown as QuantizedLayout;
    return [g.gemm(dy, g.dequantize(packed, scales, layout)), null, null];
  },
  Dequantize: none,

  ReduceSum: (g, dy, y) => [g.expand(keptShape(g, dy, y), inputsOf(y)[0].shape)],
  ReduceMean: (g, dy, y) => {
    const [x] = inputsOf(y);
    const count = (y.attributes["axes"] as readonly number[]).reduce((size, axis) => size * Number(x.shape[axis]), 1);
    return [g.expand(g.mul(keptShape(g, dy, y), g.scalar(1 / count)), x.shape)];
  },
  // P ⊙ (dP − rowsum(dP ⊙ P))
  Softmax: (g, dy, y) => {
    const weighted = g.mul(dy, y);
    return [g.sub(weighted, g.mul(y, g.reduceSum(weighted, [y.shape.length - 1], true)))];
  },
  // n = x·r, p = dy·n: dx = r(dy·gain − n·mean(p·gain)), dgain = Σ p. The mean is a product with the vector of gains
  RmsNorm: (g, dy, y) => {
    const [x, gain] = inputsOf(y);
    const r = g.output(y, 1);
    const n = g.mul(x, r);
    const p = g.mul(dy, n);
    return [g.mul(r, g.sub(g.mul(dy, gain), g.mul(n, weightedMean(g, p, gain)))), g.sumTo(p, gain.shape)];
  },
  // n = (x − μ)·r, p = dy·n: dx = r(dy·gain − mean(dy·gain) − n·mean(p·gain)), dgain = Σ p
  LayerNormalization: (g, dy, y) => {
    const [x, gain, bias] = inputsOf(y);
    const r = g.output(y, 2);
    const n = g.mul(g.sub(x, g.output(y, 1)), r);
    const p = g.mul(dy, n);
    const centred = g.sub(g.mul(dy, gain), weightedMean(g, dy, gain));
    const dx = g.mul(r, g.sub(centred, g.mul(n, weightedMean(g, p, gain))));
    return [dx, g.sumTo(p, gain.shape), g.sumTo(dy, bias.shape)];
  },
  // (softmax − onehot) on kept rows
  CrossEntropySum: (g, dy, y) => {
    const [, , safe] = inputsOf(y);
    const keep = y.inputs[3] as Node;
    const probability = g.unary("Exp", g.output(y, 1));
    const difference = g.addElements(probability, safe, g.fill(-1, safe.shape));
    return [g.mul(difference, g.mul(keep, dy)), null, null, null];
  },

  Reshape: (g, dy, y) => [g.reshape(dy, inputsOf(y)[0].shape)],
  Transpose: (g, dy, y) => {
    const permutation = y.attributes["permutation"] as readonly number[];
    return [
      g.transpose(
        dy,
        permutation.map((_, axis) => permutation.indexOf(axis)),
      ),
    ];
  },
  Expand: (g, dy, y) => [g.sumTo(dy, inputsOf(y)[0].shape)],
  Concat: (g, dy, y) => {
    const axis = y.attributes["axis"] as number;
    const sizes = y.inputs.map(({ shape }) => shape[axis]);
    if (!sizes.every((size) => typeof size === "number"))
      throw new Error("Concat has a rule for axes of fixed sizes only");
    return g.split(dy, axis, sizes);
  },
  Split: (g, _dy, y, all) => {
    const axis = y.attributes["axis"] as number;
    const parts = [y.shape, ...y.furtherShapes].map((shape, index) => all[index] ?? g.fill(0, shape));
    return [g.concat(parts, axis)];
  },
  Gather: (g, dy, y) => {
    const [table, indices] = inputsOf(y);
    return [g.addRows(g.fill(0, table.shape), indices, dy), null];
  },
  ScatterRows: (g, dy, y) => {
    const [, indices, rows] = inputsOf(y);
    return [g.scatterRows(dy, indices, g.fill(0, rows.shape)), null, g.gather(dy, indices)];
  },
  AddRows: (g, dy, y) => [dy, null, g.gather(dy, inputsOf(y)[1])],
  AddElements: (_g, dy) => [dy, null, null],
  // rotate back by the negative angle
  RotaryEmbedding: (g, dy, y) => {
    const [, cos, sin] = inputsOf(y);
    return [g.rotaryEmbedding(dy, cos, g.unary("Neg", sin)), null, null];
  },
  MaskBelow: none,
  // M = (I + L)⁻¹: dL = −Mᵀ·dM·Mᵀ
  InverseUnitLower: (g, dy, y) => [g.matMul(g.matMul(y, dy, { transA: true, alpha: -1 }), y, { transB: true })],
  LinearScan: linearScanGradient,
  Chunks: chunksGradient,
};

/** Mean over the last axis of x·gain, `[…, 1]`, as one product of a matrix and a vector. */
function weightedMean(g: GraphBuilder, x: Node, gain: Node): Node {
  const size = Number(gain.shape[0]);
  const lead = x.shape.slice(0, -1);
  const sums = g.gemm(g.reshape(x, [product(lead), size]), g.reshape(gain, [size, 1]), { alpha: 1 / size });
  return g.reshape(sums, [...lead, 1]);
}

/** dy of a reduction with its reduced axes put back as size 1. */
function keptShape(g: GraphBuilder, dy: Node, y: Node): Node {
  const axes = y.attributes["axes"] as readonly number[];
  return g.reshape(
    dy,
    inputsOf(y)[0].shape.map((size, axis) => (axes.includes(axis) ? 1 : size)),
  );
}
