import type { GraphBuilder } from "../graph/build.ts";
import type { Node } from "../graph/ops.ts";
import type { Shape } from "../graph/shape.ts";
import { packedShape, scalesShape, type QuantizedLayout } from "../quantization/formats.ts";

/** Sizes of a linear layer. */
export interface LinearSizes {
  readonly in: number;
  readonly out: number;
  readonly hasBias?: boolean;
}

/** LoRA on one linear layer: `y += scale · dropout(x)·Aᵀ·Bᵀ`. */
export interface ModuleAdapter {
  readonly rank: number;
  /** alpha / rank, or alpha / √rank. */
  readonly scale: number;
}

/** Which layers carry adapters, and what is trained beside them. */
export interface LoraPlacement {
  /** With dropout a mask input is made for each adapted layer. */
  readonly dropout: number;
  /** By module path (`model.language_model.layers.0.self_attn.q_proj`). */
  readonly modules: ReadonlyMap<string, ModuleAdapter>;
  /** Whether the lengths of the rows of adapted weights are trained on their own (DoRA). */
  readonly usesDora: boolean;
  /** Weights that are trained whole: modules to save, and biases. */
  readonly whole: ReadonlySet<string>;
}

/** A linear layer whose weight is stored in few bits. */
export interface QuantizedLinear {
  readonly layout: QuantizedLayout;
  /** Whether its inputs are multiplied by `<path>.weight.input_scales` `[in]` first, its weight having been divided by them. */
  readonly hasInputScales: boolean;
}

/**
 * The most elements of arrays that would grow with the square of a row's length or with the vocabulary; absent = as many as
 * they come to. See array-limits.ts for when they are set.
 */
export interface ArrayLimits {
  /** Scores of an attention. */
  readonly attention?: number;
  /** Logits of the loss. */
  readonly logits?: number;
}

/**
 * Gives a model its weights as graph nodes, by the names of its safetensors file. Which of them are trained, and whether
 * linear layers carry adapters, is decided here and not in the model.
 */
export class Variables {
  readonly graph: GraphBuilder;
  readonly limits: ArrayLimits;
  readonly #isTrained: (name: string) => boolean;
  readonly #lora: LoraPlacement | null;
  readonly #quantized: ReadonlyMap<string, QuantizedLinear>;
  readonly #trained = new Map<string, Node>();
  readonly #shapes = new Map<string, Shape>();
  readonly #dropoutMasks = new Map<string, Node>();
  readonly #linears = new Map<string, LinearSizes>();
  readonly #linearInputs = new Map<string, Node>();
  readonly #layerNorms = new Set<string>();

  constructor(
    graph: GraphBuilder,
    options: {
      readonly isTrained?: (name: string) => boolean;
      readonly lora?: LoraPlacement | null;
      readonly limits?: ArrayLimits;
      readonly quantized?: ReadonlyMap<string, QuantizedLinear>;
    } = {},
  ) {
    this.graph = graph;
    this.limits = options.limits ?? {};
    this.#isTrained = options.isTrained ?? (() => false);
    this.#lora = options.lora ?? null;
    this.#quantized = options.quantized ?? new Map();
  }

  /** Trained variables in the order in which the model named them. */
  get trained(): ReadonlyMap<string, Node> {
    return this.#trained;
  }

  /** Shapes of all weights that the model reads from its file, by name. */
  get shapes(): ReadonlyMap<string, Shape> {
    return this.#shapes;
  }

  /** Inputs that the trainer fills with 0 or 1/(1−p), by module path. */
  get dropoutMasks(): ReadonlyMap<string, Node> {
    return this.#dropoutMasks;
  }

  /** Linear layers by module path, in the order in which the model named them: where adapters may go. */
  get linears(): ReadonlyMap<string, LinearSizes> {
    return this.#linears;
  }

  /** What each linear layer is given, `[R, in]`, by module path. */
  get linearInputs(): ReadonlyMap<string, Node> {
    return this.#linearInputs;
  }

  /** Gains and biases of layer norms: weight decay leaves them alone. */
  get layerNorms(): ReadonlySet<string> {
    return this.#layerNorms;
  }

  weight(name: string, shape: Shape): Node {
    this.#shapes.set(name, shape);
    if (!this.#isTrained(name) && !this.#lora?.whole.has(name)) return this.graph.weight(name, shape);
    const parameter = this.graph.parameter(name, shape);
    this.#trained.set(name, parameter);
    return parameter;
  }

  /**
   * `x·Wᵀ + bias + addend`, with the adapter of `path` when it has one.
   *
   * @param x       `[R, in]`
   * @param addend  `[R, out]`: a residual, added by the same matrix product; not together with a bias
   */
  linear(path: string, x: Node, sizes: LinearSizes, addend?: Node): Node {
    this.#linears.set(path, sizes);
    this.#linearInputs.set(path, x);
    return this.graph.within(path, () => {
      const quantized = this.#quantized.get(path);
      const weight = quantized ? null : this.weight(`${path}.weight`, [sizes.out, sizes.in]);
      const c = sizes.hasBias ? this.weight(`${path}.bias`, [sizes.out]) : addend;
      const y = weight
        ? this.graph.gemm(x, weight, { transB: true, ...(c ? { c } : {}) })
        : this.#quantizedGemm(path, x, quantized as QuantizedLinear, c);
      const adapter = this.#lora?.modules.get(path);
      if (!this.#lora || !adapter) return y;
      if (!this.#lora.usesDora) return this.#adapted(path, x, y, sizes, adapter);
      return this.#decomposed(path, x, y, weight as Node, sizes, adapter);
    });
  }

  /** RMS norm of the last axis with the gain `<path>.weight`; `plusOne`: the gain is stored as its distance from 1. */
  rmsNorm(path: string, x: Node, epsilon: number, options: { readonly plusOne?: boolean } = {}): Node {
    const gain = this.weight(`${path}.weight`, [x.shape.at(-1) as number]);
    return this.graph.rmsNorm(x, options.plusOne ? this.graph.add(gain, this.graph.scalar(1)) : gain, epsilon);
  }

  /** Layer norm of the last axis with `<path>.weight` and `<path>.bias`. */
  layerNorm(path: string, x: Node, epsilon: number): Node {
    const size = x.shape.at(-1) as number;
    for (const part of ["weight", "bias"]) this.#layerNorms.add(`${path}.${part}`);
    return this.graph.layerNorm(x, this.weight(`${path}.weight`, [size]), this.weight(`${path}.bias`, [size]), epsilon);
  }

  #quantizedGemm(path: string, x: Node, { layout, hasInputScales }: QuantizedLinear, c: Node | undefined): Node {
    const part = (name: string, shape: Shape, dtype: "float32" | "uint8" = "float32"): Node => {
      this.#shapes.set(`${path}.weight.${name}`, shape);
      return this.graph.weight(`${path}.weight.${name}`, shape, dtype);
    };
    const given = hasInputScales ? this.graph.mul(x, part("input_scales", [layout.in])) : x;
    const packed = part("packed", packedShape(layout), "uint8");
    const y = this.graph.quantizedMatMul(given, packed, part("scales", scalesShape(layout)), layout);
    return c ? this.graph.add(y, c) : y;
  }

  #adapted(path: string, x: Node, y: Node, sizes: LinearSizes, { rank, scale }: ModuleAdapter): Node {
    const { a, b } = this.#matrices(path, sizes, rank);
    const z = this.graph.gemm(this.#dropped(path, x), a, { transB: true, alpha: scale });
    return this.graph.gemm(z, b, { transB: true, c: y });
  }

  /**
   * DoRA: rows of W + s·B·A keep their direction and get the trained lengths m. With n the lengths that they have, of which no
   * gradient is taken, `y + (m/n − 1)·x·Wᵀ + m/n·s·x·Aᵀ·Bᵀ`, x dropped out. Source: `dora.py` of PEFT 0.21.
   */
  #decomposed(path: string, x: Node, y: Node, weight: Node, sizes: LinearSizes, { rank, scale }: ModuleAdapter): Node {
    const { graph } = this;
    const { a, b } = this.#matrices(path, sizes, rank);
    const lengths = this.#adapterParameter(`${path}.lora_magnitude_vector`, [sizes.out]);
    const inverse = graph.detach(inverseLengths(graph, weight, a, b, scale));
    const ratio = graph.mul(lengths, graph.reshape(inverse, [sizes.out]));
    const dropped = this.#dropped(path, x);
    const z = graph.gemm(dropped, a, { transB: true, alpha: scale });
    const direction = graph.gemm(z, b, { transB: true, c: graph.gemm(dropped, weight, { transB: true }) });
    const base = graph.gemm(dropped, weight, { transB: true });
    return graph.add(y, graph.sub(graph.mul(direction, ratio), base));
  }

  #matrices(path: string, sizes: LinearSizes, rank: number): { readonly a: Node; readonly b: Node } {
    return {
      a: this.#adapterParameter(`${path}.lora_A.weight`, [rank, sizes.in]),
      b: this.#adapterParameter(`${path}.lora_B.weight`, [sizes.out, rank]),
    };
  }

  #dropped(path: string, x: Node): Node {
    if (!this.#lora || this.#lora.dropout === 0) return x;
    const mask = this.graph.input(`dropout:${path}`, x.shape);
    this.#dropoutMasks.set(path, mask);
    return this.graph.mul(x, mask);
  }

  #adapterParameter(name: string, shape: Shape): Node {
    const parameter = this.graph.parameter(name, shape);
    this.#trained.set(name, parameter);
    return parameter;
  }
}

/** 1/‖row of W + s·B·A‖, `[out, 1]`, without making that matrix: ‖W‖² + 2s·(W·Aᵀ)⊙B + s²·(B·A·Aᵀ)⊙B, summed by row. */
function inverseLengths(graph: GraphBuilder, weight: Node, a: Node, b: Node, scale: number): Node {
  const rows = (node: Node): Node => graph.reduceSum(node, [1], true);
  const across = graph.mul(graph.gemm(weight, a, { transB: true, alpha: 2 * scale }), b);
  const square = graph.mul(graph.gemm(b, graph.gemm(a, a, { transB: true, alpha: scale * scale })), b);
  return graph.unary("Rsqrt", graph.add(rows(graph.mul(weight, weight)), rows(graph.add(across, square))));
}
