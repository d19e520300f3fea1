/*
 * Gated DeltaNet: each head keeps a state that decays, forgets what it says of a key and learns that key's value. Rows are taken in
 * chunks: everything inside a chunk is products of matrices, and only the states go from chunk to chunk.
 *
 * Shapes: B rows, T tokens, C chunks of n tokens a row, D width, K key heads, H value heads, k key size, v value size,
 * Q = K·k, V = H·v, G = C·B·H (chunks of heads).
 * Source: `modeling_qwen3_5.py` of huggingface/transformers 5.23; Yang et al. 2024 (arXiv 2412.06464).
 */
import type { GraphBuilder } from "../../graph/build.ts";
import { masked, type Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";
import type { DeltaNetConfig, HybridDecoderConfig } from "./config.ts";
import { chunkSize, type DeltaInputs } from "./delta-inputs.ts";

/** Inside the root of the norms of queries and keys. */
const l2Epsilon = 1e-6;

/** What a layer leaves for the next token. */
export interface DeltaCache {
  /** `[B, kernel − 1, 2Q + V]`: what the convolution reads of the tokens before. */
  readonly convolution: Node;
  /** `[B, H, k, v]`. */
  readonly state: Node;
}

/** Queries, keys and values `[rows, 2Q + V]` after the convolution, decays (as logarithms) and strengths `[rows, H]`. */
export interface Signals {
  readonly mixed: Node;
  readonly decay: Node;
  readonly strength: Node;
}

/**
 * `x + out(norm(delta(x′)) ⊙ silu(z))`, `[B·T, D]`, of whole rows.
 *
 * @param x       `[B·T, D]`, the residual
 * @param normed  `[B·T, D]`
 */
export function deltaNet(
  variables: Variables,
  config: HybridDecoderConfig,
  path: string,
  x: Node,
  normed: Node,
  inputs: DeltaInputs,
): { readonly hidden: Node; readonly cache: DeltaCache } {
  const { graph } = variables;
  const { delta } = config;
  const visible = graph.mul(normed, inputs.tokens);
  const projected = variables.linear(`${path}.in_proj_qkv`, visible, { in: config.hiddenSize, out: mixedSize(delta) });
  const signals = signalsOf(variables, config, path, visible, convolved(variables, delta, path, projected, inputs));
  // Padding neither decays a state nor adds to it: a row's state is that after its last token.
  const counted = {
    mixed: signals.mixed,
    decay: graph.mul(signals.decay, inputs.tokens),
    strength: graph.mul(signals.strength, inputs.tokens),
  };
  const { output, state } = deltaRule(graph, delta, counted, inputs.places);
  const before = delta.kernel - 1;
  const last = graph.mul(graph.gather(projected, inputs.last.rows), inputs.last.isThere);
  return {
    hidden: gatedOutput(variables, config, path, output, visible, x),
    cache: { convolution: graph.reshape(last, ["B", before, mixedSize(delta)]), state },
  };
}

/** The same for one further token a row: `x [B, D]`. */
export function deltaNetStep(
  variables: Variables,
  config: HybridDecoderConfig,
  path: string,
  x: Node,
  normed: Node,
  past: DeltaCache,
): { readonly hidden: Node; readonly cache: DeltaCache } {
  const { graph } = variables;
  const { delta } = config;
  const size = mixedSize(delta);
  const projected = variables.linear(`${path}.in_proj_qkv`, normed, { in: config.hiddenSize, out: size });
  const seen = graph.concat([past.convolution, graph.reshape(projected, ["B", 1, size])], 1, delta.kernel);
  const [, ...kept] = graph.split(seen, 1, delta.kernel);
  const taps = graph.reshape(kernelTaps(variables, delta, path), [1, delta.kernel, size]);
  const mixed = graph.unary("Silu", graph.reduceSum(graph.mul(seen, taps), [1], false));
  const { decay, strength } = signalsOf(variables, config, path, normed, mixed);
  const { query, key, value } = headsOf(graph, delta, mixed, ["B"]);
  const perHead = (signal: Node): Node => graph.reshape(signal, ["B", delta.valueHeads, 1, 1]);
  const faded = graph.mul(past.state, graph.unary("Exp", perHead(decay)));
  const row = (part: Node): Node => graph.reshape(part, ["B", delta.valueHeads, 1, part.shape.at(-1) as number]);
  const wrong = graph.sub(row(value), graph.matMul(row(key), faded));
  const learnt = graph.mul(wrong, perHead(strength));
  const state = graph.add(faded, graph.matMul(row(key), learnt, { transA: true }));
  const output = graph.reshape(graph.matMul(row(query), state), [product(["B", delta.valueHeads]), delta.valueSize]);
  return {
    hidden: gatedOutput(variables, config, path, output, normed, x),
    cache: { convolution: graph.concat(kept, 1, delta.kernel - 1), state },
  };
}

export function mixedSize({ keyHeads, keySize, valueHeads, valueSize }: DeltaNetConfig): number {
  return 2 * keyHeads * keySize + valueHeads * valueSize;
}

/** `[kernel, 2Q + V]`, oldest token first. */
function kernelTaps(variables: Variables, delta: DeltaNetConfig, path: string): Node {
  const { graph } = variables;
  const size = mixedSize(delta);
  const weight = variables.weight(`${path}.conv1d.weight`, [size, 1, delta.kernel]);
  return graph.transpose(graph.reshape(weight, [size, delta.kernel]), [1, 0]);
}

/** Causal convolution of each channel over the tokens before, then SiLU: `[B·T, 2Q + V]`. */
function convolved(
  variables: Variables,
  delta: DeltaNetConfig,
  path: string,
  projected: Node,
  inputs: DeltaInputs,
): Node {
  const { graph } = variables;
  const taps = graph.split(kernelTaps(variables, delta, path), 0, delta.kernel).toReversed();
  const own = graph.mul(projected, taps[0] as Node);
  const sum = inputs.back.reduce((so_far, { rows, isThere }, index) => {
    const before = graph.mul(graph.gather(projected, rows), isThere);
    return graph.add(so_far, graph.mul(before, taps[index + 1] as Node));
  }, own);
  return graph.unary("Silu", sum);
}

/** Decay −e^A·softplus(a + τ), a logarithm, and strength σ(b). */
function signalsOf(variables: Variables, config: HybridDecoderConfig, path: string, x: Node, mixed: Node): Signals {
  const { graph } = variables;
  const heads = config.delta.valueHeads;
  const sizes = { in: config.hiddenSize, out: heads };
  const rate = graph.unary("Exp", variables.weight(`${path}.A_log`, [heads]));
  const step = graph.add(variables.linear(`${path}.in_proj_a`, x, sizes), variables.weight(`${path}.dt_bias`, [heads]));
  return {
    mixed,
    decay: graph.unary("Neg", graph.mul(graph.unary("Softplus", step), rate)),
    strength: graph.unary("Sigmoid", variables.linear(`${path}.in_proj_b`, x, sizes)),
  };
}

/** Queries and keys of length 1, queries scaled, keys shared by consecutive value heads: `[…, H, size]` each. */
function headsOf(
  graph: GraphBuilder,
  { keyHeads, keySize, valueHeads, valueSize }: DeltaNetConfig,
  mixed: Node,
  lead: readonly Dimension[],
): { readonly query: Node; readonly key: Node; readonly value: Node } {
  const [query, key, value] = graph.split(mixed, mixed.shape.length - 1, [
    keyHeads * keySize,
    keyHeads * keySize,
    valueHeads * valueSize,
  ]) as [Node, Node, Node];
  const repeat = valueHeads / keyHeads;
  // x/√(Σx² + ε) is an RMS norm with the gain 1/√k and the epsilon ε/k.
  const unit = (part: Node, gain: number): Node => {
    const heads = graph.reshape(part, [...lead, keyHeads, keySize]);
    const gains = graph.constant(
      Array.from({ length: keySize }, () => gain),
      [keySize],
    );
    const normed = graph.reshape(graph.rmsNorm(heads, gains, l2Epsilon / keySize), [...lead, keyHeads, 1, keySize]);
    return graph.reshape(graph.expand(normed, [...lead, keyHeads, repeat, keySize]), [...lead, valueHeads, keySize]);
  };
  return {
    query: unit(query, 1 / keySize),
    key: unit(key, keySize ** -0.5),
    value: graph.reshape(value, [...lead, valueHeads, valueSize]),
  };
}

/** The delta rule over whole rows: `[B·T·H, v]`, and the states after the last tokens `[B, H, k, v]`. */
export function deltaRule(
  graph: GraphBuilder,
  delta: DeltaNetConfig,
  { mixed, decay, strength }: Signals,
  places: Node,
): { readonly output: Node; readonly state: Node } {
  const { valueHeads, keySize, valueSize } = delta;
  const rows = product(["B", "C", chunkSize]);
  const placed = (signal: Node): Node =>
    graph.scatterRows(graph.fill(0, [rows, signal.shape[1] as number]), places, signal);
  // [C, B, H, n, size]
  const byChunk = (part: Node): Node =>
    graph.transpose(
      graph.reshape(part, ["B", "C", chunkSize, valueHeads, part.shape.at(-1) as number]),
      [1, 0, 3, 2, 4],
    );
  const heads = headsOf(graph, delta, placed(mixed), [rows]);
  const [query, key, value] = [byChunk(heads.query), byChunk(heads.key), byChunk(heads.value)];
  const perToken = (signal: Node): Node => byChunk(graph.reshape(placed(signal), [rows, valueHeads, 1]));

  const lead: Dimension[] = ["C", "B", valueHeads];
  const groups = product(lead);
  const summed = graph.reshape(
    graph.gemm(
      graph.reshape(perToken(decay), [groups, chunkSize]),
      triangle(graph, (from, to) => from <= to),
    ),
    [...lead, chunkSize, 1],
  );
  const total = graph.reshape(
    graph.gemm(graph.reshape(perToken(decay), [groups, chunkSize]), graph.fill(1, [chunkSize, 1])),
    [...lead, 1, 1],
  );
  const across = graph.reshape(summed, [...lead, 1, chunkSize]);
  // Above the diagonal the difference may be large: it is masked before the exponential.
  const later = graph.constant(
    squareOf((row, column) => (column > row ? masked : 0)),
    [chunkSize, chunkSize],
  );
  const fading = graph.unary("Exp", graph.add(graph.sub(summed, across), later));
  const grown = graph.unary("Exp", summed);

  const strong = perToken(strength);
  const strongKey = graph.mul(key, strong);
  const likeness = graph.mul(graph.matMul(strongKey, key, { transB: true }), fading);
  const inverse = graph.inverseUnitLower(
    graph.mul(
      likeness,
      triangle(graph, (row, column) => row > column),
    ),
  );
  const newValues = graph.matMul(inverse, graph.mul(value, strong));
  const reading = graph.matMul(inverse, graph.mul(strongKey, grown));
  const attention = graph.mul(graph.matMul(query, key, { transB: true }), fading);
  const writing = graph.mul(key, graph.unary("Exp", graph.sub(total, summed)));

  // S ← e^c·S + Kᵀ(U − W·S) = (e^c·I − Kᵀ·W)·S + Kᵀ·U
  const identity = graph.constant(
    Array.from({ length: keySize ** 2 }, (_, index) => Number(index % (keySize + 1) === 0)),
    [keySize, keySize],
  );
  const kept = graph.mul(graph.unary("Exp", total), identity);
  const transition = graph.sub(kept, graph.matMul(writing, reading, { transA: true }));
  const addend = graph.matMul(writing, newValues, { transA: true });
  const [entering, state] = graph.linearScan(transition, addend, graph.fill(0, ["B", valueHeads, keySize, valueSize]));

  const corrected = graph.sub(newValues, graph.matMul(reading, entering));
  const output = graph.add(graph.matMul(graph.mul(query, grown), entering), graph.matMul(attention, corrected));
  const inRows = graph.reshape(graph.transpose(output, [1, 0, 3, 2, 4]), [rows, valueHeads * valueSize]);
  const tokens = graph.gather(inRows, places);
  return { output: graph.reshape(tokens, [product(["B", "T", valueHeads]), valueSize]), state };
}

/** `x + out_proj(norm(output) ⊙ silu(z))`, norm and gate by head. */
function gatedOutput(
  variables: Variables,
  config: HybridDecoderConfig,
  path: string,
  output: Node,
  input: Node,
  x: Node,
): Node {
  const { graph } = variables;
  const { valueHeads, valueSize } = config.delta;
  const width = valueHeads * valueSize;
  const gate = variables.linear(`${path}.in_proj_z`, input, { in: config.hiddenSize, out: width });
  const normed = variables.rmsNorm(`${path}.norm`, output, config.epsilon);
  const gated = graph.mul(graph.reshape(normed, gate.shape), graph.unary("Silu", gate));
  return variables.linear(`${path}.out_proj`, gated, { in: width, out: config.hiddenSize }, x);
}

function triangle(graph: GraphBuilder, isOne: (row: number, column: number) => boolean): Node {
  return graph.constant(
    squareOf((row, column) => Number(isOne(row, column))),
    [chunkSize, chunkSize],
  );
}

function squareOf(valueAt: (row: number, column: number) => number): number[] {
  return Array.from({ length: chunkSize ** 2 }, (_, index) =>
    valueAt(Math.floor(index / chunkSize), index % chunkSize),
  );
}
