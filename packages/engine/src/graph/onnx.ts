import { processorMemory } from "@drydock/spec";
import { encodeDequantize, encodeQuantizedMatMul } from "./onnx-quantized.ts";
import { masked, quickGeluAlpha, type Body, type Node, type Op } from "./ops.ts";
import { sizeNodes } from "./onnx-sizes.ts";
import { ProtobufWriter } from "./protobuf-writer.ts";
import { product, type Dimension, type DType, type Shape } from "./shape.ts";
import { topologicalOrder } from "./topological-order.ts";

/** Where a frozen weight lies: ONNX external data by file, offset and length, so that loading copies nothing. */
export interface WeightLocation {
  /** File name relative to the folder that the session resolves external data in. */
  readonly file: string;
  readonly offset: number;
  readonly sizeBytes: number;
  readonly dtype: "float32" | "bfloat16" | "float16" | "uint8";
}

/** How a graph is computed, where that is not all in float32 from arrays of the host. */
export interface Precision {
  /** What matrix products compute in; all else, and what is added to their results, stays float32. */
  readonly matrices?: "float16" | "bfloat16";
  /** Types of frozen weights that are fed as they are stored, as input `<name>:stored`. */
  readonly stored?: ReadonlyMap<string, "float16" | "bfloat16">;
  /** Whether weights in few bits go to the operators made for them also where others are faster on the CPU: for files that
   * other runtimes and devices are to run. */
  readonly prefersPackedOperators?: boolean;
  /** Whether sizes are taken from the shapes of inputs rather than fed, and nodes stand in the order in which they run. */
  readonly isSelfContained?: boolean;
}

export interface EncodedGraph {
  readonly model: Uint8Array;
  /** Names of the graph inputs that the caller must feed, symbol sizes (`dim:B*T`, int64 `[1]`) included. */
  readonly inputNames: readonly string[];
  readonly dimensionInputs: readonly { readonly name: string; readonly dimension: string }[];
}

const elementTypes: Readonly<Record<DType | "bfloat16" | "float16", number>> = {
  float32: 1,
  uint8: 2,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};
const opset = 23;
/**
 * 16-bit weights of up to so many bytes are no input that may be fed, but constants: ONNX Runtime keeps float32 copies of them,
 * packed for its products. Beyond, that is too much memory and time at loading (docs/decisions/0014-memory-of-the-engine.md).
 */
const copiedBytes = 2 * processorMemory.copiedParameters;
const irVersion = 10;

/**
 * Encodes the graph of `outputs` as an ONNX model. Symbolic sizes become int64 inputs, so one session serves all shapes.
 *
 * @param outputs  name → node
 * @param weights  where each `Weight` lies; one without a location becomes a graph input, fed by the caller
 */
export function encodeOnnx(
  outputs: Readonly<Record<string, Node>>,
  weights: ReadonlyMap<string, WeightLocation> = new Map(),
  precision: Precision = {},
): EncodedGraph {
  const encoder = new Encoder(weights, precision);
  return encoder.encode(outputs);
}

export interface PlainNode {
  readonly type: string;
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly integers?: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly texts?: Readonly<Record<string, string>>;
  readonly lists?: Readonly<Record<string, readonly number[]>>;
  readonly graphs?: Readonly<Record<string, (writer: ProtobufWriter) => void>>;
}

export class Encoder {
  readonly prefersPackedOperators: boolean;
  readonly #weights: ReadonlyMap<string, WeightLocation>;
  readonly #nodes: PlainNode[] = [];
  readonly #precision: Precision;
  readonly #inputs: Map<string, { dtype: keyof typeof elementTypes; shape: Shape }>;
  /** Names of values in another type, by value and type. */
  readonly #casts = new Map<string, string>();
  readonly #dimensions: Map<string, string>;
  readonly #initializers: Map<string, (writer: ProtobufWriter) => void>;
  /** Types of 16-bit weights that lie in files, by their name there. */
  readonly #stored = new Map<string, (writer: ProtobufWriter) => void>();
  /** Nodes that are read by more than look-ups of their rows. */
  #readWhole: ReadonlySet<Node> = new Set();
  /** Of a graph inside a node: what its names begin with, and the names that its leaves have. */
  readonly #prefix: string;
  readonly #aliases: ReadonlyMap<Node, string>;

  /** @param outer  the encoder of the graph around a body: sizes and constants are written there, once */
  constructor(
    weights: ReadonlyMap<string, WeightLocation>,
    precision: Precision,
    outer?: { readonly encoder: Encoder; readonly prefix: string; readonly aliases: ReadonlyMap<Node, string> },
  ) {
    this.prefersPackedOperators = precision.prefersPackedOperators ?? false;
    this.#weights = weights;
    this.#precision = precision;
    this.#inputs = outer
      ? outer.encoder.#inputs
      : new Map<string, { dtype: keyof typeof elementTypes; shape: Shape }>();
    this.#dimensions = outer ? outer.encoder.#dimensions : new Map<string, string>();
    this.#initializers = outer ? outer.encoder.#initializers : new Map<string, (writer: ProtobufWriter) => void>();
    this.#prefix = outer?.prefix ?? "";
    this.#aliases = outer?.aliases ?? new Map<Node, string>();
  }

  /** Name of the first output of a node in this graph. */
  name(node: Node): string {
    return this.#aliases.get(node) ?? this.#prefix + nameOf(node);
  }

  /** Names of all outputs. */
  names(node: Node): string[] {
    return [this.name(node), ...node.furtherShapes.map((_, index) => `${this.#prefix}n${node.id}.${index + 1}`)];
  }

  /**
   * Writes the graph of a `Chunks` node's body.
   *
   * @param aliases  names of the whole inputs
   * @returns the writer, and the names of the sums as the body takes and gives them, of the pieces and of the joined results
   */
  body(
    node: Node,
    aliases: ReadonlyMap<Node, string>,
  ): { write: (writer: ProtobufWriter) => void; sums: readonly string[] } {
    const body = node.body as Body;
    const prefix = `${this.name(node)}/`;
    const inner = new Encoder(this.#weights, this.#precision, { encoder: this, prefix, aliases });
    const pieces = new Set(body.pieces);
    const order = topologicalOrder([...body.joined, ...body.summed]).filter((each) => !pieces.has(each));
    for (const each of order.sort((a, b) => a.id - b.id)) if (!aliases.has(each)) inner.#encodeNode(each);
    const sums = body.summed.map((_, index) => `${prefix}sum${index}`);
    body.summed.forEach((part, index) =>
      inner.#plain({
        type: "Add",
        inputs: [sums[index] as string, inner.name(part)],
        outputs: [`${sums[index]}:next`],
      }),
    );
    body.joined.forEach((part, index) =>
      inner.#plain({ type: "Identity", inputs: [inner.name(part)], outputs: [`${prefix}joined${index}`] }),
    );
    const write = (graph: ProtobufWriter): void => {
      for (const plain of inner.#nodes) graph.message(1, (each) => writeNode(each, plain));
      graph.text(2, prefix);
      body.summed.forEach(({ shape }, index) =>
        graph.message(11, (info) => writeValueInfo(info, sums[index] as string, "float32", shape)),
      );
      for (const piece of body.pieces)
        graph.message(11, (info) => writeValueInfo(info, inner.name(piece), piece.dtype, piece.shape));
      body.summed.forEach(({ shape }, index) =>
        graph.message(12, (info) => writeValueInfo(info, `${sums[index]}:next`, "float32", shape)),
      );
      body.joined.forEach(({ shape }, index) =>
        graph.message(12, (info) => writeValueInfo(info, `${prefix}joined${index}`, "float32", shape)),
      );
    };
    return { write, sums };
  }

  /**
   * Nodes are written last first: ONNX Runtime walks back from the results, and of several inputs takes the one that was
   * written last, so it then runs nodes in the order in which they were made. A weight's gradient follows the layer's
   * backward pass at once; written first to last, all of them waited for the end, with every activation kept till then.
   */
  encode(outputs: Readonly<Record<string, Node>>): EncodedGraph {
    const order = topologicalOrder(Object.values(outputs));
    const read = order.flatMap(({ op, inputs }) => (op === "Gather" ? inputs.slice(1) : inputs));
    this.#readWhole = new Set([...Object.values(outputs), ...read]);
    for (const node of order.sort((a, b) => a.id - b.id)) this.#encodeNode(node);
    for (const [name, node] of Object.entries(outputs))
      this.#plain({ type: "Identity", inputs: [nameOf(node)], outputs: [name] });
    const isSelfContained = this.#precision.isSelfContained ?? false;
    if (isSelfContained) {
      const sizes = [...this.#dimensions.keys()];
      for (const name of this.#dimensions.values()) this.#inputs.delete(name);
      this.#dimensions.clear();
      const nodes = sizeNodes(sizes, this.#inputs, (value) => this.integers([value]));
      this.#nodes.unshift(...nodes);
    }
    const writer = new ProtobufWriter();
    writer.integer(1, irVersion);
    writer.text(2, "drydock");
    writer.message(7, (graph) => {
      for (const node of isSelfContained ? this.#nodes : this.#nodes.toReversed())
        graph.message(1, (inner) => writeNode(inner, node));
      graph.text(2, "drydock");
      for (const write of this.#initializers.values()) graph.message(5, write);
      for (const [name, { dtype, shape }] of this.#inputs)
        graph.message(11, (inner) => writeValueInfo(inner, name, dtype, shape));
      for (const write of this.#stored.values()) graph.message(11, write);
      for (const [name, node] of Object.entries(outputs))
        graph.message(12, (inner) => writeValueInfo(inner, name, node.dtype, node.shape));
    });
    for (const [domain, version] of [
      ["", opset],
      ["com.microsoft", 1],
    ] as const) {
      writer.message(8, (inner) => {
        inner.text(1, domain);
        inner.integer(2, version);
      });
    }
    const dimensionInputs = [...this.#dimensions].map(([dimension, name]) => ({ name, dimension }));
    return { model: writer.finish(), inputNames: [...this.#inputs.keys()], dimensionInputs };
  }

  #encodeNode(node: Node): void {
    const inputs = node.inputs.map((input) => this.name(input));
    encodings[node.op](node, this, inputs);
  }

  plain(node: PlainNode): void {
    this.#plain(node);
  }

  #plain(node: PlainNode): void {
    this.#nodes.push(node);
  }

  addInput(node: Node): void {
    const stored = this.#precision.stored?.get(nameOf(node));
    if (stored) return this.#addStoredInput(node, stored);
    this.#inputs.set(nameOf(node), { dtype: node.dtype, shape: node.shape });
  }

  /** The name of a weight that lies in a file in 16 bits: rows are looked up there, and only they become float32. */
  storedIn16Bits(node: Node): string | null {
    const location = node.op === "Weight" ? this.#weights.get(node.attributes["name"] as string) : undefined;
    return location && is16Bit(location) ? `${nameOf(node)}:stored` : null;
  }

  /** Whether 16-bit weights become float32 each time that they are read. */
  get #readsInPlace(): boolean {
    const stored = [...this.#weights.values()].filter(is16Bit);
    return stored.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) > copiedBytes;
  }

  addWeight(node: Node): void {
    if (node.dtype === "uint8") return; // declared by the operators that read it, in the shape that they want
    const name = node.attributes["name"] as string;
    const location = this.#weights.get(name);
    if (!location) return this.addInput(node);
    const stored = this.storedIn16Bits(node) ?? nameOf(node);
    this.#addStored(stored, node.shape, location);
    if (stored === nameOf(node)) return;
    // An input that need not be fed it is no constant: of constants ONNX Runtime would keep float32 copies beside the file.
    if (this.#readsInPlace)
      this.#stored.set(stored, (info) => writeValueInfo(info, stored, location.dtype, node.shape));
    if (this.#readWhole.has(node)) this.#plain(toFloat32(stored, nameOf(node)));
  }

  /** Whether a leaf lies in a file, rather than being fed. */
  isStored({ op, attributes }: Node): boolean {
    return op === "Weight" && this.#weights.has(attributes["name"] as string);
  }

  /** Name of a leaf of bytes. @param shape  of one that lies in a file, where it is another than the node's */
  bytesOf(node: Node, shape: Shape = node.shape): string {
    const location = this.#weights.get(node.attributes["name"] as string);
    if (this.isStored(node) && location) this.#addStored(nameOf(node), shape, location);
    else this.addInput(node);
    return nameOf(node);
  }

  #addStored(stored: string, shape: Shape, location: WeightLocation): void {
    this.#initializers.set(stored, (tensor) => {
      for (const size of shape) tensor.integer(1, Number(size));
      tensor.integer(2, elementTypes[location.dtype]);
      tensor.text(8, stored);
      for (const [key, value] of [
        ["location", location.file],
        ["offset", String(location.offset)],
        ["length", String(location.sizeBytes)],
      ] as const) {
        tensor.message(13, (entry) => {
          entry.text(1, key);
          entry.text(2, value);
        });
      }
      tensor.integer(14, 1); // EXTERNAL
    });
  }

  #addStoredInput(node: Node, type: "float16" | "bfloat16"): void {
    const [name, stored] = [nameOf(node), `${nameOf(node)}:stored`];
    this.#inputs.set(stored, { dtype: type, shape: node.shape });
    this.#casts.set(`${name}:${type}`, stored);
    this.#plain(toFloat32(stored, name));
  }

  /** A matrix product: in the precision of matrices, its addend added in float32. */
  product(node: PlainNode): void {
    const type = this.#precision.matrices;
    if (!type) return this.#plain(node);
    const [output = ""] = node.outputs;
    const [a = "", b = "", addend] = node.inputs;
    const low = `${output}:${type}`;
    this.#plain({ ...node, inputs: [this.#cast(a, type), this.#cast(b, type)], outputs: [low] });
    const wide = addend === undefined ? output : `${output}:product`;
    this.#plain({ type: "Cast", inputs: [low], outputs: [wide], integers: { to: elementTypes.float32 } });
    if (addend !== undefined) this.#plain({ type: "Add", inputs: [wide, addend], outputs: [output] });
  }

  #cast(name: string, type: "float16" | "bfloat16"): string {
    const key = `${name}:${type}`;
    let known = this.#casts.get(key);
    if (known === undefined) {
      this.#casts.set(key, (known = `${this.#prefix}${key}:cast`));
      this.#plain({ type: "Cast", inputs: [name], outputs: [known], integers: { to: elementTypes[type] } });
    }
    return known;
  }

  /** Name of an int64 tensor that holds `shape`: constants and symbol inputs joined. */
  shape(shape: Shape): string {
    const parts: string[] = [];
    let constants: number[] = [];
    const flush = (): void => {
      if (constants.length > 0) parts.push(this.integers(constants));
      constants = [];
    };
    for (const dimension of shape) {
      if (typeof dimension === "number") constants.push(dimension);
      else {
        flush();
        parts.push(this.#dimension(dimension));
      }
    }
    flush();
    if (parts.length === 1) return parts[0] as string;
    const name = `${this.#prefix}shape:${shape.join(",")}`;
    if (!this.#nodes.some(({ outputs }) => outputs[0] === name))
      this.#plain({ type: "Concat", inputs: parts, outputs: [name], integers: { axis: 0 } });
    return name;
  }

  /** A single int64 under a name. */
  integer(name: string, value: number): void {
    this.#initializers.set(name, (tensor) =>
      writeTensor(tensor, name, "int64", [], new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)),
    );
  }

  integers(values: readonly number[]): string {
    const name = `integers:${values.join(",")}`;
    this.#initializers.set(name, (tensor) =>
      writeTensor(tensor, name, "int64", [values.length], new Uint8Array(BigInt64Array.from(values, BigInt).buffer)),
    );
    return name;
  }

  floats(name: string, shape: Shape, values: Float32Array): void {
    this.#initializers.set(name, (tensor) =>
      writeTensor(
        tensor,
        name,
        "float32",
        shape.map(Number),
        new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      ),
    );
  }

  bytes(name: string, shape: readonly number[], values: Uint8Array): string {
    this.#initializers.set(name, (tensor) => writeTensor(tensor, name, "uint8", shape, values));
    return name;
  }

  #dimension(dimension: Dimension): string {
    const key = String(dimension);
    const name = `dim:${key}`;
    this.#dimensions.set(key, name);
    this.#inputs.set(name, { dtype: "int64", shape: [1] });
    return name;
  }
}

function is16Bit({ dtype }: WeightLocation): boolean {
  return dtype === "bfloat16" || dtype === "float16";
}

function toFloat32(input: string, output: string): PlainNode {
  return { type: "Cast", inputs: [input], outputs: [output], integers: { to: elementTypes.float32 } };
}

/** Name of the first output of a node in the ONNX graph; leaves keep the name that they were given. */
export function nameOf(node: Node): string {
  if (node.op === "Input" || node.op === "Parameter" || node.op === "Weight") return node.attributes["name"] as string;
  if (node.op === "Output") return `n${(node.inputs[0] as Node).id}.${node.attributes["index"] as number}`;
  return `n${node.id}`;
}

type Encoding = (node: Node, encoder: Encoder, inputs: readonly string[]) => void;

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
const encodings: { readonly [O in Op]: Encoding } = {
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

/**
 * The inverse of a pair of blocks from those of each: inv[[A, 0], [B, E]] = [[A⁻¹, 0], [−E⁻¹·B·A⁻¹, E⁻¹]]. With X the inverses of all
 * blocks of one size on the diagonal and B what lies below them in their pairs, that is X − X·B·X. Blocks begin with size 1, X = I.
 * (Doubling powers of the nilpotent part takes as many products and loses all digits where keys are alike.)
 */
function encodeInverse(node: Node, encoder: Encoder, lower: string): void {
  const name = encoder.name(node);
  const size = Number(node.shape.at(-1));
  const square = (place: string, isOne: (row: number, column: number) => boolean): string => {
    const values = Float32Array.from({ length: size * size }, (_, index) =>
      Number(isOne(Math.floor(index / size), index % size)),
    );
    encoder.floats(place, [size, size], values);
    return place;
  };
  const below = (block: number): string =>
    square(`below-blocks-of-${block}-in-${size}`, (row, column) => {
      const isInPair = Math.floor(row / (2 * block)) === Math.floor(column / (2 * block));
      return isInPair && row % (2 * block) >= block && column % (2 * block) < block;
    });
  let inverse = square(`identity-${size}`, (row, column) => row === column);
  for (let block = 1; block < size; block *= 2) {
    const part = (what: string): string => `${name}:${what}${block}`;
    encoder.plain({ type: "Mul", inputs: [lower, below(block)], outputs: [part("below")] });
    let product = part("below");
    if (block > 1) {
      encoder.plain({ type: "MatMul", inputs: [inverse, product], outputs: [part("left")] });
      encoder.plain({ type: "MatMul", inputs: [part("left"), inverse], outputs: [part("both")] });
      product = part("both");
    }
    const next = 2 * block === size ? name : part("inverse");
    encoder.plain({ type: "Sub", inputs: [inverse, product], outputs: [next] });
    inverse = next;
  }
}

function encodeLinearScan(node: Node, encoder: Encoder, [a, b, first]: readonly string[]): void {
  const { reverse, transA } = node.attributes as { reverse: boolean; transA: boolean };
  const name = encoder.name(node);
  const [states = "", last = ""] = encoder.names(node);
  const [state, matrix, addend] = [`${name}/state`, `${name}/matrix`, `${name}/addend`];
  const [product, next, seen] = [`${name}/product`, `${name}/next`, `${name}/seen`];
  const [inputA, inputB] = node.inputs as readonly [Node, Node, Node];
  const shape = inputB.shape.slice(1);
  const steps: PlainNode[] = [
    {
      type: "FusedMatMul",
      domain: "com.microsoft",
      inputs: [matrix, state],
      outputs: [product],
      integers: { transA: Number(transA) },
    },
    { type: "Add", inputs: [product, addend], outputs: [next] },
    { type: "Identity", inputs: [state], outputs: [seen] },
  ];
  const body = (graph: ProtobufWriter): void => {
    const info = (field: number, value: string, own: Shape): void =>
      graph.message(field, (inner) => writeValueInfo(inner, value, "float32", own));
    for (const step of steps) graph.message(1, (inner) => writeNode(inner, step));
    graph.text(2, name);
    info(11, state, shape);
    info(11, matrix, inputA.shape.slice(1));
    info(11, addend, shape);
    info(12, next, shape);
    info(12, seen, shape);
  };
  const direction = Number(reverse);
  encoder.plain({
    type: "Scan",
    inputs: [first as string, a as string, b as string],
    outputs: [last, states],
    integers: { num_scan_inputs: 2 },
    lists: { scan_input_directions: [direction, direction], scan_output_directions: [direction] },
    graphs: { body },
  });
}

/** Cut inputs are filled up and get an axis of pieces, along which Scan takes them; what it joins is cut to length. */
function encodeChunks(node: Node, encoder: Encoder, inputs: readonly string[]): void {
  const name = encoder.name(node);
  const body = node.body as Body;
  const inPieces = (shape: Shape, axis: number): Shape => shape.toSpliced(axis, 1, body.chunks.count, body.chunks.size);
  const cut = body.pieces.map((piece, index) => {
    const axis = body.axes[index] as number;
    const rank = piece.shape.length;
    const place = `${name}:cut${index}`;
    const fill = `${place}:fill`;
    if (piece.dtype === "int64") encoder.integer(fill, body.padding[index] as number);
    else encoder.floats(fill, [], Float32Array.of(body.padding[index] as number));
    const amounts = Array.from({ length: 2 * rank }, (_, at): Dimension => (at === rank + axis ? body.chunks.rest : 0));
    encoder.plain({
      type: "Pad",
      inputs: [inputs[index] as string, encoder.shape(amounts), fill],
      outputs: [`${place}:filled`],
    });
    encoder.plain({
      type: "Reshape",
      inputs: [`${place}:filled`, encoder.shape(inPieces(piece.shape, axis))],
      outputs: [place],
    });
    return place;
  });
  const aliases = new Map<Node, string>();
  body.pieces.forEach((piece, index) => aliases.set(piece, `${name}/piece${index}`));
  body.whole.forEach((whole, index) => aliases.set(whole, inputs[body.pieces.length + index] as string));
  const { write } = encoder.body(node, aliases);
  const zeros = body.summed.map(({ shape }, index) => {
    const zero = `${name}:zero${index}`;
    encoder.floats("seen", [], Float32Array.of(0));
    const sizes = shape.length === 0 ? encoder.integers([]) : encoder.shape(shape);
    encoder.plain({ type: "Expand", inputs: ["seen", sizes], outputs: [zero] });
    return zero;
  });
  const outputs = encoder.names(node);
  const joined = body.joined.map((_, index) => `${name}:joined${index}`);
  encoder.plain({
    type: "Scan",
    inputs: [...zeros, ...cut],
    outputs: [...outputs.slice(joined.length), ...joined],
    integers: { num_scan_inputs: cut.length },
    lists: { scan_input_axes: body.axes, scan_output_axes: body.joinAxes },
    graphs: { body: write },
  });
  body.joined.forEach(({ shape }, index) => {
    const axis = body.joinAxes[index] as number;
    const whole = `${joined[index]}:whole`;
    const length = shape.with(axis, product([body.chunks.count, body.chunks.size]));
    encoder.plain({ type: "Reshape", inputs: [joined[index] as string, encoder.shape(length)], outputs: [whole] });
    encoder.plain({
      type: "Slice",
      inputs: [whole, encoder.integers([0]), encoder.shape([body.length]), encoder.integers([axis])],
      outputs: [outputs[index] as string],
    });
  });
}

function writeNode(writer: ProtobufWriter, node: PlainNode): void {
  for (const input of node.inputs) writer.text(1, input);
  for (const output of node.outputs) writer.text(2, output);
  writer.text(3, node.outputs[0] as string);
  writer.text(4, node.type);
  for (const [name, value] of Object.entries(node.integers ?? {}))
    writeAttribute(writer, name, 2, (attribute) => attribute.integer(3, value));
  for (const [name, value] of Object.entries(node.floats ?? {}))
    writeAttribute(writer, name, 1, (attribute) => attribute.float(2, value));
  for (const [name, value] of Object.entries(node.texts ?? {}))
    writeAttribute(writer, name, 3, (attribute) => attribute.text(4, value));
  for (const [name, values] of Object.entries(node.lists ?? {}))
    writeAttribute(writer, name, 7, (attribute) => values.forEach((value) => attribute.integer(8, value)));
  for (const [name, write] of Object.entries(node.graphs ?? {}))
    writeAttribute(writer, name, 5, (attribute) => attribute.message(6, write));
  if (node.domain) writer.text(7, node.domain);
}

function writeAttribute(
  writer: ProtobufWriter,
  name: string,
  type: number,
  write: (attribute: ProtobufWriter) => void,
): void {
  writer.message(5, (attribute) => {
    attribute.text(1, name);
    write(attribute);
    attribute.integer(20, type);
  });
}

function writeTensor(
  writer: ProtobufWriter,
  name: string,
  dtype: DType,
  shape: readonly number[],
  raw: Uint8Array,
): void {
  for (const size of shape) writer.integer(1, size);
  writer.integer(2, elementTypes[dtype]);
  writer.text(8, name);
  writer.bytes(9, raw);
}

function writeValueInfo(writer: ProtobufWriter, name: string, dtype: keyof typeof elementTypes, shape: Shape): void {
  writer.text(1, name);
  writer.message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.integer(1, elementTypes[dtype]);
      tensor.message(2, (dimensions) => {
        for (const size of shape)
          dimensions.message(1, (dimension) =>
            typeof size === "number" ? dimension.integer(1, size) : dimension.text(2, size),
          );
      });
    }),
  );
}
