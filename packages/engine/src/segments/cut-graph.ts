/*
 * Cuts the graph of a loss into segments of consecutive layers. Each segment is a graph of its own: forward, from the
 * values that earlier segments give, and backward, which computes its forward pass once more (Chen et al. 2016, arXiv
 * 1604.06174). So a machine holds the activations of one segment at a time, a rank may hold the weights of some segments
 * only, and gradients of later layers are final while those of earlier ones are still computed.
 */
import { GraphBuilder } from "../graph/build.ts";
import { gradientOf, reachedFrom } from "../graph/gradient.ts";
import type { Node } from "../graph/ops.ts";
import type { Shape } from "../graph/shape.ts";
import { topologicalOrder } from "../graph/topological-order.ts";
import { gradientOutputs, type RowGradient } from "../training/training-graph.ts";

/** What one segment gives to later ones. */
export interface Value {
  /** Equal for equal models, on whatever rank. */
  readonly name: string;
  readonly shape: Shape;
  /** Whether the loss is differentiated by it: something trained lies before it. */
  readonly isReached: boolean;
}

/**
 * A graph whose inputs and outputs are numbered, so that layers that are built alike are the same graph.
 *
 * Inputs stand for feeds and weights by their own names, for values (`value:…`), for the gradients of values (`d:value:…`)
 * and for sums that are added to (`sum:<weight>`); outputs for `loss`, values, gradients of values and `gradient:<weight>`.
 */
export interface SegmentGraph {
  readonly outputs: Readonly<Record<string, Node>>;
  /** By the graph's name of an input: what it stands for. */
  readonly inputs: ReadonlyMap<string, string>;
  /** By the graph's name of an output: what it stands for. */
  readonly results: ReadonlyMap<string, string>;
  /** Gradients that are looked-up rows; names of outputs and of indices as they stand for. */
  readonly rowGradients: readonly RowGradient[];
}

export interface Segment {
  /** Values of earlier segments that it reads. */
  readonly takes: readonly Value[];
  /** Values that later segments read. */
  readonly gives: readonly Value[];
  /** Weights whose gradients are final once its backward pass is done, the segments' being run last to first. */
  readonly completes: readonly string[];
  /** Weights, feeds and trained values that it reads. */
  readonly reads: ReadonlySet<string>;
  /** Null for the last segment: its forward pass is part of its backward pass. */
  readonly forward: SegmentGraph | null;
  /**
   * The gradients of its weights and of what it takes, given those of what it gives; of the last segment the loss, too.
   * Null when nothing trained lies in it or before it.
   *
   * @param adds  true: gradients of weights are added to `sum:<weight>`
   */
  backward(adds: boolean): SegmentGraph | null;
}

/**
 * @param cuts     where segments end, first to last: each depends on the one before it
 * @param trained  leaves of the graph, by the names of their weights
 * @returns one segment more than there are cuts
 */
export function cutGraph(loss: Node, cuts: readonly Node[], trained: ReadonlyMap<string, Node>): Segment[] {
  const order = topologicalOrder([loss]);
  const reached = reachedFrom(trained.values(), order);
  const segmentOf = placeNodes(order, cuts);
  const { takes, gives } = crossings(order, segmentOf, cuts.length + 1);
  const givenLater = new Set<string>();
  const pieces: Piece[] = [];
  for (let index = cuts.length; index >= 0; index--) {
    const isLast = index === cuts.length;
    const piece = new Piece({
      loss: isLast ? loss : null,
      takes: takes[index] as readonly Node[],
      gives: gives[index] as readonly Node[],
      reached,
      trained,
      addedAnyway: new Set(givenLater),
    });
    for (const name of piece.denseGradients) givenLater.add(name);
    pieces.unshift(piece);
  }
  const open = new Set(trained.keys());
  return pieces.map((piece) => ({
    takes: piece.takes,
    gives: piece.gives,
    completes: [...piece.trainedHere].filter((name) => open.delete(name)),
    reads: piece.reads,
    forward: piece.forward,
    backward: (adds) => piece.backward(adds),
  }));
}

/** A node lies where the last of its inputs lies, and behind a cut that it reads. */
function placeNodes(order: readonly Node[], cuts: readonly Node[]): ReadonlyMap<Node, number> {
  const cutAt = new Map(cuts.map((node, index) => [node, index]));
  const placed = new Map<Node, number>();
  for (const node of order) {
    const after = node.inputs.map((input) => {
      const cut = cutAt.get(input);
      return cut === undefined ? (placed.get(input) as number) : cut + 1;
    });
    placed.set(node, Math.max(0, ...after));
  }
  return placed;
}

function crossings(
  order: readonly Node[],
  segmentOf: ReadonlyMap<Node, number>,
  count: number,
): { takes: Node[][]; gives: Node[][] } {
  const taken = Array.from({ length: count }, () => new Set<Node>());
  const given = Array.from({ length: count }, () => new Set<Node>());
  const fed = fedNodes(order);
  for (const node of order) {
    const segment = segmentOf.get(node) as number;
    for (const input of node.inputs) {
      const from = segmentOf.get(input) as number;
      if (from === segment || fed.has(input)) continue;
      taken[segment]?.add(input);
      given[from]?.add(input);
    }
  }
  const byId = (a: Node, b: Node): number => a.id - b.id;
  return { takes: taken.map((nodes) => [...nodes].sort(byId)), gives: given.map((nodes) => [...nodes].sort(byId)) };
}

/** Leaves, and what follows from feeds alone, such as masks: each segment makes that for itself. */
function fedNodes(order: readonly Node[]): ReadonlySet<Node> {
  const fed = new Set<Node>();
  for (const node of order)
    if (node.inputs.every((input) => fed.has(input) && input.op !== "Weight" && input.op !== "Parameter"))
      fed.add(node);
  return fed;
}

interface PieceOptions {
  /** The loss, in the last segment. */
  readonly loss: Node | null;
  readonly takes: readonly Node[];
  readonly gives: readonly Node[];
  readonly reached: ReadonlySet<Node>;
  readonly trained: ReadonlyMap<string, Node>;
  /** Weights that a later segment has written the gradient of before. */
  readonly addedAnyway: ReadonlySet<string>;
}

class Piece implements Omit<Segment, "completes"> {
  readonly takes: readonly Value[];
  readonly gives: readonly Value[];
  readonly forward: SegmentGraph | null;
  readonly reads: ReadonlySet<string>;
  /** Trained weights that it reads. */
  readonly trainedHere: ReadonlySet<string>;
  readonly #options: PieceOptions;

  constructor(options: PieceOptions) {
    this.#options = options;
    const { loss, takes, gives, reached, trained } = options;
    this.takes = takes.map((node) => valueOf(node, reached));
    this.gives = gives.map((node) => valueOf(node, reached));
    const copy = new Copy(options, loss ? [loss] : gives);
    this.reads = new Set([...copy.leaves.values()].map(leafName));
    this.trainedHere = new Set([...trained.keys()].filter((name) => this.reads.has(name)));
    this.forward = loss ? null : copy.finish(copy.results);
  }

  get denseGradients(): string[] {
    const graph = this.backward(false);
    return [...(graph?.results.values() ?? [])].flatMap((name) => /^gradient:(.*)$/s.exec(name)?.[1] ?? []);
  }

  backward(adds: boolean): SegmentGraph | null {
    const { loss, takes, gives, reached, trained, addedAnyway } = this.#options;
    const copy = new Copy(this.#options, loss ? [loss] : gives);
    const { graph } = copy;
    const seeds = new Map<Node, Node>();
    if (loss) seeds.set(copy.of(loss), graph.fill(1, []));
    else
      for (const node of gives)
        if (reached.has(node)) seeds.set(copy.of(node), copy.input(`d:${nameOfValue(node)}`, node));
    const names = [...this.trainedHere];
    const back = takes.filter((node) => reached.has(node));
    const wanted = [...names.map((name) => copy.of(trained.get(name) as Node)), ...back.map((node) => copy.of(node))];
    if (!loss && (seeds.size === 0 || wanted.length === 0)) return null;
    const parts = gradientOf(graph, seeds, wanted);
    const weights = names.flatMap((name, index): [string, Node][] => {
      const part = parts[index];
      return part ? [[copy.numbered(name), part]] : [];
    });
    const { outputs, rowGradients } = gradientOutputs(
      graph,
      weights,
      (name) => adds || addedAnyway.has(copy.meaning(name)),
    );
    const results: [string, Node][] = Object.entries(outputs).map(([name, node]) => [copy.spelledOut(name), node]);
    back.forEach((value, index) => {
      const part = parts[names.length + index];
      if (part) results.push([`d:${nameOfValue(value)}`, part]);
    });
    if (loss) results.push(["loss", copy.of(loss)]);
    return {
      ...copy.finish(results),
      rowGradients: rowGradients.map(({ name, output, indices }) => ({
        name: copy.meaning(name),
        output: copy.spelledOut(output),
        indices: copy.meaning(indices),
      })),
    };
  }
}

/** A part of a graph in a builder of its own, leaves and values that it takes renamed to numbers in order of use. */
class Copy {
  readonly graph = new GraphBuilder();
  /** Leaves of the part, by the number that they have here. */
  readonly leaves = new Map<string, Node>();
  readonly results: readonly [string, Node][];
  readonly #copies = new Map<Node, Node>();
  readonly #inputs = new Map<string, string>();
  readonly #numbers = new Map<string, string>();

  constructor({ takes }: Pick<PieceOptions, "takes">, roots: readonly Node[]) {
    const taken = new Set(takes);
    for (const node of topologicalOrder(roots, (each) => taken.has(each))) {
      if (taken.has(node)) this.#copies.set(node, this.input(nameOfValue(node), node));
      else if (isNamed(node)) {
        const copy = this.input(leafName(node), node);
        this.leaves.set(copy.attributes["name"] as string, node);
        this.#copies.set(node, copy);
      } else
        this.#copies.set(
          node,
          this.graph.adopt(
            node,
            node.inputs.map((input) => this.of(input)),
          ),
        );
    }
    this.results = roots.map((node) => [nameOfValue(node), this.of(node)]);
  }

  of(node: Node): Node {
    const copy = this.#copies.get(node);
    if (!copy) throw new Error(`node ${node.id} (${node.op}) is no part of the segment`);
    return copy;
  }

  /** A new input that stands for `meaning`. */
  input(meaning: string, { shape, dtype }: Node): Node {
    const name = `i${this.#inputs.size}`;
    this.#inputs.set(name, meaning);
    this.#numbers.set(meaning, name);
    return this.graph.input(name, shape, dtype);
  }

  /** What an input of this graph stands for; names that are none stand for themselves. */
  meaning(name: string): string {
    return this.#inputs.get(name) ?? name;
  }

  /** The input that stands for a weight. */
  numbered(meaning: string): string {
    return this.#numbers.get(meaning) ?? meaning;
  }

  /** `gradient:i3` as `gradient:<weight>`. */
  spelledOut(name: string): string {
    return name.replace(/(?<=:)i\d+$/, (number) => this.meaning(number));
  }

  finish(results: readonly (readonly [string, Node])[]): SegmentGraph {
    const inputs = new Map(this.#inputs);
    for (const node of topologicalOrder(results.map(([, root]) => root))) {
      const name = node.op === "Input" ? (node.attributes["name"] as string) : "";
      if (name.startsWith("sum:")) inputs.set(name, this.spelledOut(name));
    }
    return {
      outputs: Object.fromEntries(results.map(([, node], index) => [`o${index}`, node])),
      inputs,
      results: new Map(results.map(([name], index) => [`o${index}`, name])),
      rowGradients: [],
    };
  }
}

function isNamed({ op }: Node): boolean {
  return op === "Input" || op === "Parameter" || op === "Weight";
}

function leafName(node: Node): string {
  return node.attributes["name"] as string;
}

function valueOf(node: Node, reached: ReadonlySet<Node>): Value {
  return { name: nameOfValue(node), shape: node.shape, isReached: reached.has(node) };
}

function nameOfValue({ id }: Node): string {
  return `value:${id}`;
}
