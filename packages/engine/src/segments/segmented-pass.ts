import type { Shape } from "../graph/shape.ts";
import type { Feeds, Symbols } from "../runtime/feeds.ts";
import { addRows, type GradientPass } from "../training/backward-pass.ts";
import type { BorrowedWeights, FrozenWeights } from "../weights/frozen-weights.ts";
import type { CompiledGraph } from "../runtime/compiled-graph.ts";
import type { Segment, SegmentGraph } from "./cut-graph.ts";
import { SegmentSessions } from "./segment-sessions.ts";
import { ValueStore } from "./value-store.ts";

export interface SegmentedPassOptions {
  /** True: gradients are added to what the arrays hold; false: they are written over it. */
  readonly adds: boolean;
  readonly threads: number;
  /** Passes of different lanes run at the same time. */
  readonly lane: number;
}

interface CompiledPart {
  readonly graph: SegmentGraph;
  readonly session: CompiledGraph;
  /** Shapes of the frozen weights that it reads, by name. */
  readonly frozen: ReadonlyMap<string, readonly number[]>;
}

/**
 * Loss and gradients of micro-batches, one segment after the other: forward to the last one, then back, each segment's
 * activations computed again for its backward pass. Frozen weights are fed like trained ones, so that both passes of a
 * segment, and segments that are built alike, use the same memory and the same session. They are borrowed for the time that
 * a segment runs, and those of the next segment are read in the meantime.
 */
export class SegmentedPass implements GradientPass {
  readonly #segments: readonly Segment[];
  readonly #forward: readonly (CompiledPart | null)[];
  readonly #backward: readonly (CompiledPart | null)[];
  readonly #sessions: SegmentSessions;
  readonly #weights: FrozenWeights;
  readonly #adds: boolean;
  /** Weights whose gradient is written over by the first backward pass that reaches it. */
  readonly #written: ReadonlySet<string>;
  #spare: readonly Float32Array[] = [];

  private constructor(
    segments: readonly Segment[],
    forward: readonly (CompiledPart | null)[],
    backward: readonly (CompiledPart | null)[],
    sessions: SegmentSessions,
    weights: FrozenWeights,
    adds: boolean,
  ) {
    this.#segments = segments;
    this.#forward = forward;
    this.#backward = backward;
    this.#sessions = sessions;
    this.#weights = weights;
    this.#adds = adds;
    this.#written = writtenFirst(backward.flatMap((part) => part?.graph ?? []).toReversed());
  }

  /**
   * @param segments      of one rank: consecutive ones
   * @param frozenShapes  of the weights that are not trained, by name
   */
  static async compile(
    segments: readonly Segment[],
    weights: FrozenWeights,
    frozenShapes: ReadonlyMap<string, Shape>,
    options: SegmentedPassOptions,
  ): Promise<SegmentedPass> {
    const sessions = new SegmentSessions(options);
    const compile = async (graph: SegmentGraph | null): Promise<CompiledPart | null> =>
      graph && compiledPart(graph, await sessions.sessionOf(graph), frozenShapes);
    const forward = await inTurn(segments, async (segment) => await compile(segment.forward));
    const backward = await inTurn(segments, async (segment) => await compile(segment.backward(options.adds)));
    return new SegmentedPass(segments, forward, backward, sessions, weights, options.adds);
  }

  /** Sessions that serve all segments. */
  get sessionCount(): number {
    return this.#sessions.count;
  }

  async run(
    feeds: Feeds,
    symbols: Symbols,
    gradients: ReadonlyMap<string, Float32Array>,
    completed: (names: readonly string[]) => void = () => undefined,
  ): Promise<number> {
    const values = new ValueStore(symbols, this.#spare);
    this.clear(gradients);
    await this.forward(feeds, symbols, values);
    const loss = await this.backward(feeds, symbols, values, gradients, completed);
    this.#spare = values.empty();
    return loss;
  }

  /** Empties the sums that no backward pass writes over. */
  clear(gradients: ReadonlyMap<string, Float32Array>): void {
    if (!this.#adds) for (const [name, data] of gradients) if (!this.#written.has(name)) data.fill(0);
  }

  /** Computes what each segment gives, all but the last segment of the model. */
  async forward(feeds: Feeds, symbols: Symbols, values: ValueStore): Promise<void> {
    for await (const { index, part, frozen } of this.#inTurn([...this.#forward.entries()])) {
      if (!part) continue;
      for (const value of (this.#segments[index] as Segment).gives) values.make(value.name, value);
      await runPart(part, { ...frozen, ...feeds }, symbols, values);
    }
  }

  /**
   * Goes back through the segments, last to first. Reads the values that `forward` made and, when the last segment of the
   * model is not among these, the gradients of what they give; leaves the gradients of what the first ones take.
   *
   * @returns the summed loss; NaN where it is another rank's
   */
  async backward(
    feeds: Feeds,
    symbols: Symbols,
    values: ValueStore,
    gradients: ReadonlyMap<string, Float32Array>,
    completed: (names: readonly string[]) => void,
  ): Promise<number> {
    let loss = Number.NaN;
    for await (const { index, part, frozen } of this.#inTurn([...this.#backward.entries()].toReversed())) {
      const segment = this.#segments[index] as Segment;
      const given = { ...frozen, ...feeds };
      if (part) loss = (await this.#backwardOf(part, segment, given, symbols, values, gradients)) ?? loss;
      for (const { name } of segment.gives) {
        values.letGo(name);
        values.letGo(`d:${name}`);
      }
      if (segment.completes.length > 0) completed(segment.completes);
    }
    return loss;
  }

  async close(): Promise<void> {
    await this.#sessions.close();
  }

  /** Parts with the weights that they read, which stay until the next one is asked for. */
  async *#inTurn(
    parts: readonly (readonly [number, CompiledPart | null])[],
  ): AsyncGenerator<{ readonly index: number; readonly part: CompiledPart | null; readonly frozen: Feeds }> {
    const borrow = (at: number): Promise<BorrowedWeights> => {
      const borrowed = this.#weights.borrow(parts[at]?.[1]?.frozen ?? new Map());
      borrowed.catch(() => undefined); // thrown where it is awaited, unless an earlier part failed before that
      return borrowed;
    };
    let next = borrow(0);
    try {
      for (const [at, [index, part]] of parts.entries()) {
        const borrowed = await next;
        next = borrow(at + 1);
        try {
          yield { index, part, frozen: borrowed.feeds };
        } finally {
          borrowed.release();
        }
      }
    } finally {
      next.then(
        ({ release }) => release(),
        () => undefined,
      );
    }
  }

  async #backwardOf(
    part: CompiledPart,
    segment: Segment,
    feeds: Feeds,
    symbols: Symbols,
    values: ValueStore,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<number | null> {
    const shapes = new Map(segment.takes.map((value) => [`d:${value.name}`, value]));
    const sums: { readonly into: Float32Array; readonly part: Float32Array }[] = [];
    const into = (meaning: string): Float32Array | undefined => {
      if (meaning.startsWith("gradient:")) return gradients.get(meaning.slice("gradient:".length));
      const value = shapes.get(meaning);
      if (!value) return undefined;
      const before = values.get(meaning);
      if (!before) return values.make(meaning, value).data;
      // Several segments take this value: its gradient is the sum of what they send back.
      const addend = values.make(`${meaning}:addend`, value).data;
      sums.push({ into: before.data, part: addend });
      return addend;
    };
    const results = await runPart(part, feeds, symbols, values, into, gradients);
    for (const { into: sum, part: addend } of sums)
      for (let index = 0; index < sum.length; index++) sum[index] = (sum[index] as number) + (addend[index] as number);
    for (const { name } of segment.takes) values.letGo(`d:${name}:addend`);
    for (const { name, output, indices } of part.graph.rowGradients)
      addRows(
        gradients.get(name) as Float32Array,
        feeds[indices]?.data as BigInt64Array,
        results.get(output) as Float32Array,
      );
    return results.get("loss")?.[0] ?? null;
  }
}

/** Runs a graph on what its inputs stand for. Results that have no place are answered, by what they stand for. */
async function runPart(
  { graph, session }: CompiledPart,
  feeds: Feeds,
  symbols: Symbols,
  values: ValueStore,
  into: (meaning: string) => Float32Array | undefined = (meaning) => values.get(meaning)?.data,
  gradients: ReadonlyMap<string, Float32Array> = new Map(),
): Promise<ReadonlyMap<string, Float32Array>> {
  const given: Feeds = {};
  for (const [name, meaning] of graph.inputs) {
    const sum = meaning.startsWith("sum:") ? meaning.slice("sum:".length) : null;
    const data = sum === null ? undefined : gradients.get(sum);
    const feed = data ? { data, shape: feeds[sum as string]?.shape ?? [] } : (values.get(meaning) ?? feeds[meaning]);
    if (feed) given[name] = feed;
  }
  const targets: Record<string, Float32Array> = {};
  for (const [name, meaning] of graph.results) {
    const target = into(meaning);
    if (target) targets[name] = target;
  }
  const results = await session.run(given, symbols, targets);
  return new Map([...graph.results].map(([name, meaning]) => [meaning, results[name] as Float32Array]));
}

/** @param graphs  in the order in which they run */
function writtenFirst(graphs: readonly SegmentGraph[]): ReadonlySet<string> {
  const written = new Set<string>();
  const seen = new Set<string>();
  for (const { inputs, results } of graphs) {
    const added = new Set([...inputs.values()].filter((meaning) => meaning.startsWith("sum:")));
    for (const meaning of results.values()) {
      const [, name] = /^gradient:(.*)$/s.exec(meaning) ?? [];
      if (name === undefined || seen.has(name)) continue;
      seen.add(name);
      if (!added.has(`sum:${name}`)) written.add(name);
    }
  }
  return written;
}

function compiledPart(
  graph: SegmentGraph,
  session: CompiledGraph,
  frozenShapes: ReadonlyMap<string, Shape>,
): CompiledPart {
  const frozen = new Map<string, readonly number[]>();
  for (const [name, meaning] of graph.inputs) {
    const shape = frozenShapes.get(meaning);
    if (shape && session.inputNames.has(name)) frozen.set(meaning, shape.map(Number));
  }
  return { graph, session, frozen };
}

async function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
