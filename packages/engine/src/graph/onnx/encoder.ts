import { processorMemory } from "@drydock/spec";
import type { Body, Node, Op } from "../ops.ts";
import type { Dimension, Shape } from "../shape.ts";
import { topologicalOrder } from "../topological-order.ts";
import { toFloat32, writeNode, type PlainNode } from "./plain-node.ts";
import { ProtobufWriter } from "./protobuf-writer.ts";
import { sizeNodes } from "./sizes.ts";
import { elementTypes, writeTensor, writeValueInfo, type ElementType } from "./values.ts";

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

/** Writes the ONNX nodes of one node. @param inputs  names of its inputs */
export type Encoding = (node: Node, encoder: Encoder, inputs: readonly string[]) => void;
/** One encoding per op. */
export type Encodings = { readonly [O in Op]: Encoding };

const opset = 23;
/**
 * 16-bit weights of up to so many bytes are no input that may be fed, but constants: ONNX Runtime keeps float32 copies of them,
 * packed for its products. Beyond, that is too much memory and time at loading (docs/decisions/0014-memory-of-the-engine.md).
 */
const copiedBytes = 2 * processorMemory.copiedParameters;
const irVersion = 10;

/** Writes one graph: what it reads, its constants, and its nodes as the encodings of its ops write them. */
export class Encoder {
  readonly prefersPackedOperators: boolean;
  readonly #encodings: Encodings;
  readonly #weights: ReadonlyMap<string, WeightLocation>;
  readonly #nodes: PlainNode[] = [];
  readonly #precision: Precision;
  readonly #inputs: Map<string, { dtype: ElementType; shape: Shape }>;
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
    encodings: Encodings,
    weights: ReadonlyMap<string, WeightLocation>,
    precision: Precision,
    outer?: { readonly encoder: Encoder; readonly prefix: string; readonly aliases: ReadonlyMap<Node, string> },
  ) {
    this.prefersPackedOperators = precision.prefersPackedOperators ?? false;
    this.#encodings = encodings;
    this.#weights = weights;
    this.#precision = precision;
    this.#inputs = outer ? outer.encoder.#inputs : new Map<string, { dtype: ElementType; shape: Shape }>();
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
    const inner = new Encoder(this.#encodings, this.#weights, this.#precision, { encoder: this, prefix, aliases });
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
    this.#encodings[node.op](node, this, inputs);
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

/** Name of the first output of a node in the ONNX graph; leaves keep the name that they were given. */
function nameOf(node: Node): string {
  if (node.op === "Input" || node.op === "Parameter" || node.op === "Weight") return node.attributes["name"] as string;
  if (node.op === "Output") return `n${(node.inputs[0] as Node).id}.${node.attributes["index"] as number}`;
  return `n${node.id}`;
}
