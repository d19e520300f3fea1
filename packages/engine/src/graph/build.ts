import {
  broadcast,
  product,
  sameShape,
  shapeText,
  ShapeError,
  type Dimension,
  type DType,
  type Shape,
} from "./shape.ts";
import { bodyText } from "./body-text.ts";
import type { Attribute, Body, Node, Op } from "./ops.ts";
import { packedShape, scalesShape, type QuantizedLayout } from "../quantization/formats.ts";

/**
 * Builds one graph. Equal calls give the same node, so common subexpressions are shared as they are written.
 * `within` names the layer path that shape errors carry.
 */
export class GraphBuilder {
  readonly #known = new Map<string, Node>();
  #count = 0;
  #path: string[] = [];

  /** Runs `write` with `name` on the layer path. */
  within<T>(name: string, write: () => T): T {
    this.#path.push(name);
    try {
      return write();
    } finally {
      this.#path.pop();
    }
  }

  input(name: string, shape: Shape, dtype: DType = "float32"): Node {
    return this.#node("Input", [], { name }, shape, dtype);
  }

  parameter(name: string, shape: Shape): Node {
    return this.#node("Parameter", [], { name }, shape, "float32");
  }

  weight(name: string, shape: Shape, dtype: "float32" | "uint8" = "float32"): Node {
    return this.#node("Weight", [], { name }, shape, dtype);
  }

  constant(values: readonly number[], shape: Shape): Node {
    return this.#node("Constant", [], { values }, shape, "float32", [], Float32Array.from(values));
  }

  scalar(value: number): Node {
    return this.constant([value], []);
  }

  /** `value` in every element of `shape`. */
  fill(value: number, shape: Shape): Node {
    return this.#node("Fill", [], { value, shape }, shape, "float32");
  }

  add(a: Node, b: Node): Node {
    return this.#elementwise("Add", a, b);
  }

  sub(a: Node, b: Node): Node {
    return this.#elementwise("Sub", a, b);
  }

  mul(a: Node, b: Node): Node {
    return this.#elementwise("Mul", a, b);
  }

  unary(
    op: "Neg" | "Exp" | "Sigmoid" | "Tanh" | "Softplus" | "Rsqrt" | "Erf" | "Silu" | "QuickGelu" | "Gelu" | "GeluTanh",
    x: Node,
  ): Node {
    return this.#node(op, [x], {}, x.shape, x.dtype);
  }

  /** The value of `x`, of which no gradient is taken. */
  detach(x: Node): Node {
    return this.#node("Detach", [x], {}, x.shape, x.dtype);
  }

  /**
   * `alpha · A' · B' + C` of matrices, `A' [M,K]`, `B' [K,N]` after the transpose flags; `C` is `[N]`, `[M,N]` or absent.
   */
  gemm(
    a: Node,
    b: Node,
    options: { readonly c?: Node; readonly transA?: boolean; readonly transB?: boolean; readonly alpha?: number } = {},
  ): Node {
    const { c, transA = false, transB = false, alpha = 1 } = options;
    const [rows, innerA] = transA ? [a.shape[1], a.shape[0]] : [a.shape[0], a.shape[1]];
    const [innerB, columns] = transB ? [b.shape[1], b.shape[0]] : [b.shape[0], b.shape[1]];
    if (
      a.shape.length !== 2 ||
      b.shape.length !== 2 ||
      innerA !== innerB ||
      rows === undefined ||
      columns === undefined
    )
      throw this.#mismatch(
        `gemm: ${shapeText(a.shape)}${transA ? "ᵀ" : ""} x ${shapeText(b.shape)}${transB ? "ᵀ" : ""}: inner sizes ${innerA} and ${innerB} differ`,
      );
    const shape = [rows, columns];
    if (c && !sameShape(c.shape, shape) && !sameShape(c.shape, [columns]))
      throw this.#mismatch(`gemm: addend ${shapeText(c.shape)} does not fit ${shapeText(shape)}`);
    return this.#node("Gemm", c ? [a, b, c] : [a, b], { transA, transB, alpha }, shape, "float32");
  }

  /** `alpha · A' · B'` over the last two axes; the leading axes of both must be equal. */
  matMul(
    a: Node,
    b: Node,
    options: { readonly transA?: boolean; readonly transB?: boolean; readonly alpha?: number } = {},
  ): Node {
    const { transA = false, transB = false, alpha = 1 } = options;
    const lead = a.shape.slice(0, -2);
    const [rowA, columnA] = a.shape.slice(-2);
    const [rowB, columnB] = b.shape.slice(-2);
    const [rows, innerA] = transA ? [columnA, rowA] : [rowA, columnA];
    const [innerB, columns] = transB ? [columnB, rowB] : [rowB, columnB];
    if (!sameShape(lead, b.shape.slice(0, -2)) || innerA !== innerB || rows === undefined || columns === undefined)
      throw this.#mismatch(
        `matMul: ${shapeText(a.shape)}${transA ? "ᵀ" : ""} x ${shapeText(b.shape)}${transB ? "ᵀ" : ""}: sizes differ`,
      );
    return this.#node("FusedMatMul", [a, b], { transA, transB, alpha }, [...lead, rows, columns], "float32");
  }

  /**
   * `x · Wᵀ` with a weight `[out, in]` in few bits, see formats.ts.
   *
   * @param x       `[R, in]`
   * @param packed  uint8, of the layout's `packedShape`
   * @param scales  of the layout's `scalesShape`
   */
  quantizedMatMul(x: Node, packed: Node, scales: Node, layout: QuantizedLayout): Node {
    const [rows, width] = x.shape;
    if (x.shape.length !== 2 || rows === undefined || width !== layout.in)
      throw this.#mismatch(`quantizedMatMul: ${shapeText(x.shape)} x [${layout.out}, ${layout.in}]ᵀ: sizes differ`);
    this.#checkPacked(packed, scales, layout);
    return this.#node("QuantizedMatMul", [x, packed, scales], { ...layout }, [rows, layout.out], "float32");
  }

  /** The float32 weight `[out, in]`. Not the same node as the one that `quantizedMatMul` may use inside: it is made anew. */
  dequantize(packed: Node, scales: Node, layout: QuantizedLayout): Node {
    this.#checkPacked(packed, scales, layout);
    return this.#node("Dequantize", [packed, scales], { ...layout }, [layout.out, layout.in], "float32");
  }

  reduceSum(x: Node, axes: readonly number[], keepDimensions: boolean): Node {
    return this.#reduce("ReduceSum", x, axes, keepDimensions);
  }

  reduceMean(x: Node, axes: readonly number[], keepDimensions: boolean): Node {
    return this.#reduce("ReduceMean", x, axes, keepDimensions);
  }

  /** Over the last axis. */
  softmax(x: Node): Node {
    return this.#node("Softmax", [x], {}, x.shape, "float32");
  }

  /** `x·gain/√(mean(x²)+ε)` over the last axis; `output(…, 1)` is 1/√(…), `[…, 1]`. */
  rmsNorm(x: Node, gain: Node, epsilon: number): Node {
    if (!sameShape(gain.shape, x.shape.slice(-1)))
      throw this.#mismatch(
        `rmsNorm: gain ${shapeText(gain.shape)} is not as long as the last axis of ${shapeText(x.shape)}`,
      );
    return this.#node("RmsNorm", [x, gain], { epsilon }, x.shape, "float32", [[...x.shape.slice(0, -1), 1]]);
  }

  /** Layer norm over the last axis; outputs 1 and 2 are the mean and 1/σ, `[…, 1]`. */
  layerNorm(x: Node, gain: Node, bias: Node, epsilon: number): Node {
    if (!sameShape(gain.shape, x.shape.slice(-1)))
      throw this.#mismatch(
        `layerNorm: gain ${shapeText(gain.shape)} is not as long as the last axis of ${shapeText(x.shape)}`,
      );
    const statistics = [...x.shape.slice(0, -1), 1];
    return this.#node("LayerNormalization", [x, gain, bias], { epsilon }, x.shape, "float32", [statistics, statistics]);
  }

  /**
   * Sum over rows of −log softmax(logits)[label].
   *
   * @param logits  `[L, V]`
   * @param labels  `[L]` int64, −100 = ignored
   * @param safe    `[L, 1]` int64, labels with 0 where ignored
   * @param keep    `[L, 1]`, 1 where kept, else 0
   */
  crossEntropySum(logits: Node, labels: Node, safe: Node, keep: Node): Node {
    return this.#node("CrossEntropySum", [logits, labels, safe, keep], {}, [], "float32", [logits.shape]);
  }

  reshape(x: Node, shape: Shape): Node {
    if (product(x.shape) !== product(shape))
      throw this.#mismatch(`reshape: ${shapeText(x.shape)} does not hold as many elements as ${shapeText(shape)}`);
    return sameShape(x.shape, shape) ? x : this.#node("Reshape", [x], { shape }, shape, x.dtype);
  }

  transpose(x: Node, permutation: readonly number[]): Node {
    const shape = permutation.map((axis) => this.#axis(x, axis));
    return this.#node("Transpose", [x], { permutation }, shape, x.dtype);
  }

  expand(x: Node, shape: Shape): Node {
    return sameShape(x.shape, shape) ? x : this.#node("Expand", [x], { shape }, shape, x.dtype);
  }

  /** Joins along `axis`. Where the sizes are symbols, `size` names the size of the result. */
  concat(parts: readonly Node[], axis: number, size?: Dimension): Node {
    const first = parts[0];
    if (!first) throw this.#mismatch("concat: no parts");
    const sizes = parts.map((part) => this.#axis(part, axis));
    const total =
      size ?? (sizes.every((part) => typeof part === "number") ? sizes.reduce((sum, part) => sum + part, 0) : null);
    if (total === null) throw this.#mismatch("concat: the joined axis has no fixed size and no name");
    return this.#node("Concat", parts, { axis }, first.shape.with(axis, total), first.dtype);
  }

  /** Cuts a fixed axis into `count` equal parts, or into parts of the given sizes. */
  split(x: Node, axis: number, parts: number | readonly number[]): Node[] {
    const size = this.#axis(x, axis);
    const sizes = typeof parts === "number" ? Array.from({ length: parts }, () => Number(size) / parts) : parts;
    if (sizes.reduce((sum, part) => sum + part, 0) !== size || !sizes.every(Number.isInteger))
      throw this.#mismatch(`split: axis ${axis} of ${shapeText(x.shape)} does not divide into ${sizes.join(", ")}`);
    const [first = x.shape, ...further] = sizes.map((part) => x.shape.with(axis, part));
    const node = this.#node("Split", [x], { axis, sizes }, first, x.dtype, further);
    return [node, ...further.map((_, index) => this.output(node, index + 1))];
  }

  /** (I + L)⁻¹ of matrices `[…, n, n]` that are strictly lower triangular, n a power of two. */
  inverseUnitLower(lower: Node): Node {
    const [rows, columns] = lower.shape.slice(-2);
    if (rows !== columns || typeof rows !== "number" || !Number.isInteger(Math.log2(rows)))
      throw this.#mismatch(`inverseUnitLower: ${shapeText(lower.shape)} does not end in a square of a power of two`);
    return this.#node("InverseUnitLower", [lower], {}, lower.shape, "float32");
  }

  /**
   * The states of `S ← A·S + B` over the first axis: what `S` is before each step, and after the last.
   *
   * @param a        `[C, …, k, k]`
   * @param b        `[C, …, k, v]`
   * @param first    `[…, k, v]`
   * @param options  `reverse`: the steps are taken last to first; `transA`: `S ← Aᵀ·S + B`
   * @returns `[C, …, k, v]` and `[…, k, v]`
   */
  linearScan(
    a: Node,
    b: Node,
    first: Node,
    options: { readonly reverse?: boolean; readonly transA?: boolean } = {},
  ): [Node, Node] {
    const { reverse = false, transA = false } = options;
    if (!sameShape(b.shape.slice(1), first.shape) || !sameShape(a.shape.slice(0, -1), b.shape.slice(0, -1)))
      throw this.#mismatch(
        `linearScan: ${shapeText(a.shape)}, ${shapeText(b.shape)} and ${shapeText(first.shape)} do not fit`,
      );
    const node = this.#node("LinearScan", [a, b, first], { reverse, transA }, b.shape, "float32", [first.shape]);
    return [node, this.output(node, 1)];
  }

  /** Rows `indices [n]` of `table [V, D]`. */
  gather(table: Node, indices: Node): Node {
    return this.#node("Gather", [table, indices], {}, [this.#axis(indices, 0), ...table.shape.slice(1)], table.dtype);
  }

  /** `data [R, D]` with rows `indices [n]` replaced by `rows [n, D]`. */
  scatterRows(data: Node, indices: Node, rows: Node): Node {
    return this.#node("ScatterRows", [data, indices, rows], {}, data.shape, data.dtype);
  }

  /** `data [R, D]` with `rows [n, D]` added at rows `indices [n]`. Repeated indices accumulate, on one thread: on
   * several ONNX Runtime adds them at once and loses some, so what is trained must not depend on such a node. */
  addRows(data: Node, indices: Node, rows: Node): Node {
    return this.#node("AddRows", [data, indices, rows], {}, data.shape, data.dtype);
  }

  /** `data [L, V]` with `values [L, 1]` added at columns `indices [L, 1]`. */
  addElements(data: Node, indices: Node, values: Node): Node {
    return this.#node("AddElements", [data, indices, values], {}, data.shape, data.dtype);
  }

  /** Half-split rotary embedding: `x [B, H, T, d]`, `cos` and `sin` `[B, T, d/2]`. */
  rotaryEmbedding(x: Node, cos: Node, sin: Node): Node {
    return this.#node("RotaryEmbedding", [x, cos, sin], {}, x.shape, "float32");
  }

  /** 0 where `a ≥ b`, else a number so low that a softmax gives the place no weight; broadcast. */
  maskBelow(a: Node, b: Node): Node {
    return this.#elementwise("MaskBelow", a, b);
  }

  /** `body` on each piece of the inputs: use `inChunks` (chunks.ts), which writes the body. */
  chunks(inputs: readonly Node[], body: Body): Node {
    const joined = body.joined.map(({ shape }, index) => shape.with(body.joinAxes[index] as number, body.length));
    const [first, ...further] = [...joined, ...body.summed.map(({ shape }) => shape)];
    if (!first) throw this.#mismatch("chunks: the body gives nothing");
    return this.#node("Chunks", inputs, { body: bodyText(body) }, first, "float32", further, undefined, body);
  }

  output(node: Node, index: number): Node {
    const shape = node.furtherShapes[index - 1];
    if (!shape) throw this.#mismatch(`${node.op} has no output ${index}`);
    return this.#node("Output", [node], { index }, shape, node.dtype);
  }

  /** The node of another graph, on inputs of this one that have the shapes of its own. */
  adopt({ op, attributes, shape, dtype, furtherShapes, data, body }: Node, inputs: readonly Node[]): Node {
    return this.#node(op, inputs, attributes, shape, dtype, furtherShapes, data, body);
  }

  /** Sums `x` down to `shape`, the reverse of broadcasting. */
  sumTo(x: Node, shape: Shape): Node {
    if (sameShape(x.shape, shape)) return x;
    const lead = x.shape.length - shape.length;
    const axes = x.shape.flatMap((size, axis) =>
      axis < lead || (shape[axis - lead] === 1 && size !== 1) ? [axis] : [],
    );
    return this.reshape(axes.length > 0 ? this.reduceSum(x, axes, false) : x, shape);
  }

  #checkPacked(packed: Node, scales: Node, layout: QuantizedLayout): void {
    if (packed.dtype !== "uint8" || !sameShape(packed.shape, packedShape(layout)))
      throw this.#mismatch(
        `${layout.format} of [${layout.out}, ${layout.in}]: bytes are ${packed.dtype} ${shapeText(packed.shape)}, not uint8 ${shapeText(packedShape(layout))}`,
      );
    if (!sameShape(scales.shape, scalesShape(layout)))
      throw this.#mismatch(
        `${layout.format} of [${layout.out}, ${layout.in}]: scales are ${shapeText(scales.shape)}, not ${shapeText(scalesShape(layout))}`,
      );
  }

  #elementwise(op: "Add" | "Sub" | "Mul" | "MaskBelow", a: Node, b: Node): Node {
    return this.#node(op, [a, b], {}, broadcast(a.shape, b.shape, this.#at(op)), a.dtype);
  }

  #reduce(op: "ReduceSum" | "ReduceMean", x: Node, axes: readonly number[], keepDimensions: boolean): Node {
    const shape = x.shape.flatMap((size, axis): Dimension[] =>
      axes.includes(axis) ? (keepDimensions ? [1] : []) : [size],
    );
    return this.#node(op, [x], { axes, keepDimensions }, shape, x.dtype);
  }

  #axis(x: Node, axis: number): Dimension {
    const size = x.shape[axis];
    if (size === undefined) throw this.#mismatch(`${shapeText(x.shape)} has no axis ${axis}`);
    return size;
  }

  #at(op: string): string {
    return this.#path.length > 0 ? `${op} (${this.#path.join(".")})` : op;
  }

  #mismatch(message: string): ShapeError {
    return new ShapeError(this.#path.length > 0 ? `${message} (${this.#path.join(".")})` : message);
  }

  #node(
    op: Op,
    inputs: readonly Node[],
    attributes: Readonly<Record<string, Attribute>>,
    shape: Shape,
    dtype: DType,
    furtherShapes: readonly Shape[] = [],
    data?: Float32Array | BigInt64Array,
    body?: Body,
  ): Node {
    const key = `${op}(${inputs.map(({ id }) => id).join()})${JSON.stringify(attributes)}${shape.join()}`;
    const known = this.#known.get(key);
    if (known) return known;
    const node: Node = Object.freeze({
      id: this.#count++,
      op,
      inputs,
      attributes,
      shape,
      dtype,
      furtherShapes,
      ...(data ? { data } : {}),
      ...(body ? { body } : {}),
    });
    this.#known.set(key, node);
    return node;
  }
}
