import type { ChunkDimensions, Dimension, DType, Shape } from "./shape.ts";

/** Attribute values that an ONNX node can carry here. */
export type Attribute = number | boolean | string | readonly number[] | readonly Dimension[];

/**
 * The whole vocabulary. Names are ONNX's (or those of ONNX Runtime's `com.microsoft` domain) unless marked.
 * Adding a word here makes the compiler ask for its gradient (gradients.ts) and its encoding (onnx/op-encodings.ts).
 */
export const ops = {
  // leaves
  Input: { outputs: 1 }, // fed at run time, no gradient
  Parameter: { outputs: 1 }, // trainable, fed at run time
  Weight: { outputs: 1 }, // frozen, stored in the model's file
  Constant: { outputs: 1 },
  Fill: { outputs: 1 }, // ours: one number in a given shape
  // element-wise
  Add: { outputs: 1 },
  Sub: { outputs: 1 },
  Mul: { outputs: 1 },
  Neg: { outputs: 1 },
  Exp: { outputs: 1 },
  Sigmoid: { outputs: 1 },
  Tanh: { outputs: 1 },
  Softplus: { outputs: 1 },
  Rsqrt: { outputs: 1 }, // ours: 1/√x
  Detach: { outputs: 1 }, // ours: Identity that lets no gradient through
  Erf: { outputs: 1 },
  Silu: { outputs: 1 }, // ours: QuickGelu with alpha 1
  QuickGelu: { outputs: 1 }, // alpha 1.702
  Gelu: { outputs: 1 },
  GeluTanh: { outputs: 1 }, // ours: Gelu with approximate = tanh
  // matrices
  Gemm: { outputs: 1 },
  FusedMatMul: { outputs: 1 },
  QuantizedMatMul: { outputs: 1 }, // ours: MatMulBnb4, MatMulNBits, or dequantized blocks and Gemm: what is fast and right
  Dequantize: { outputs: 1 }, // ours: the float32 weight that packed bytes stand for
  InverseUnitLower: { outputs: 1 }, // ours: (I + L)⁻¹ of strictly lower triangular matrices, by blocks
  LinearScan: { outputs: 2 }, // ours: Scan of S ← A·S + B over the first axis; second output the last S
  // reductions and norms
  ReduceSum: { outputs: 1 },
  ReduceMean: { outputs: 1 },
  Softmax: { outputs: 1 },
  RmsNorm: { outputs: 2 }, // ours: SimplifiedLayerNormalization; second output 1/rms
  LayerNormalization: { outputs: 3 },
  CrossEntropySum: { outputs: 2 }, // ours: SoftmaxCrossEntropyLoss, sum; second output log probabilities
  // movement
  Reshape: { outputs: 1 },
  Transpose: { outputs: 1 },
  Expand: { outputs: 1 },
  Concat: { outputs: 1 },
  Split: { outputs: 0 }, // as many as its attribute says
  Gather: { outputs: 1 },
  ScatterRows: { outputs: 1 }, // ours: ScatterND over rows, replacing
  AddRows: { outputs: 1 }, // ours: ScatterND over rows, adding
  AddElements: { outputs: 1 }, // ours: ScatterElements on the last axis, adding
  RotaryEmbedding: { outputs: 1 },
  MaskBelow: { outputs: 1 }, // ours: 0 where the first input is at least the second, else a large negative number
  Chunks: { outputs: 0 }, // ours: Scan of a body over pieces of an axis; as many outputs as the body has
  Output: { outputs: 1 }, // ours: a further output of a node that has several
} as const;
export type Op = keyof typeof ops;

/** What MaskBelow gives: half of the lowest float32, so that a sum of two stays finite. */
export const masked = -3.4028234663852886e38 / 2;

/** y = x·σ(1.702x): the curve of GELU as CLIP draws it. */
export const quickGeluAlpha = 1.702;

/** One immutable vertex, made by the functions of build.ts only; equal vertices are the same object. */
export interface Node {
  readonly id: number;
  readonly op: Op;
  readonly inputs: readonly Node[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly shape: Shape;
  readonly dtype: DType;
  /** Shapes of the outputs after the first, for ops that have several. */
  readonly furtherShapes: readonly Shape[];
  /** Values of a Constant. */
  readonly data?: Float32Array | BigInt64Array;
  /** What `Chunks` computes of each piece. */
  readonly body?: Body;
}

/** A graph inside a node: one piece of the inputs that are cut, and the whole of the others. */
export interface Body {
  /** `Input` nodes of the body, in the order of the node's inputs: pieces first, then whole ones. */
  readonly pieces: readonly Node[];
  readonly whole: readonly Node[];
  /** Results that are pieces of the node's outputs, then those that are summed over the pieces. */
  readonly joined: readonly Node[];
  readonly summed: readonly Node[];
  /** Where the pieces lie: an axis of each cut input and of each joined output. */
  readonly axes: readonly number[];
  readonly joinAxes: readonly number[];
  /** What fills each cut input up where the pieces do not come out even. */
  readonly padding: readonly number[];
  /** Length of the axis that is cut. */
  readonly length: Dimension;
  readonly chunks: ChunkDimensions;
}
