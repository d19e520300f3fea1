import { expect, test } from "vitest";
import { gradient } from "../../graph/gradient.ts";
import { GraphBuilder } from "../../graph/build.ts";
import { CompiledGraph } from "../../runtime/compiled-graph.ts";
import { SeededRandom } from "../../training/random.ts";
import { chunkSize } from "./delta-inputs.ts";
import { deltaRule } from "./delta-net.ts";

const sizes = { keyHeads: 1, keySize: 4, valueHeads: 2, valueSize: 3, kernel: 4 };
const width = 2 * sizes.keyHeads * sizes.keySize + sizes.valueHeads * sizes.valueSize;

interface Signals {
  readonly mixed: Float64Array;
  readonly decay: Float64Array;
  readonly strength: Float64Array;
}

/** The delta rule token by token in double precision: outputs `[T, H, v]` and the state `[H, k, v]`. */
function recurrent({ mixed, decay, strength }: Signals, tokens: number): { output: number[]; state: number[] } {
  const { keySize, valueHeads, valueSize } = sizes;
  const unit = (values: number[]): number[] => {
    const root = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) + 1e-6);
    return values.map((value) => value / root);
  };
  const state = Array.from({ length: valueHeads }, () =>
    Array.from({ length: keySize }, () => Array.from({ length: valueSize }, () => 0)),
  );
  const output: number[] = [];
  for (let token = 0; token < tokens; token++) {
    const row = [...mixed.subarray(token * width, (token + 1) * width)];
    const query = unit(row.slice(0, keySize)).map((value) => value / Math.sqrt(keySize));
    const key = unit(row.slice(keySize, 2 * keySize));
    for (let head = 0; head < valueHeads; head++) {
      const start = 2 * keySize + head * valueSize;
      const own = state[head] as number[][];
      const fade = Math.exp(decay[token * valueHeads + head] as number);
      for (const line of own) line.forEach((value, index) => (line[index] = value * fade));
      for (let column = 0; column < valueSize; column++) {
        const read = own.reduce((sum, line, index) => sum + (line[column] as number) * (key[index] as number), 0);
        const wrong = ((row[start + column] as number) - read) * (strength[token * valueHeads + head] as number);
        own.forEach((line, index) => (line[column] = (line[column] as number) + (key[index] as number) * wrong));
      }
      for (let column = 0; column < valueSize; column++)
        output.push(own.reduce((sum, line, index) => sum + (line[column] as number) * (query[index] as number), 0));
    }
  }
  return { output, state: state.flat(2) };
}

function randomSignals(tokens: number): Signals {
  const random = new SeededRandom(5, "delta");
  const values = (count: number, make: () => number): Float64Array =>
    Float64Array.from({ length: count }, () => Math.fround(make()));
  return {
    mixed: values(tokens * width, () => random.normal()),
    decay: values(tokens * sizes.valueHeads, () => -0.3 * random.uniform()),
    strength: values(tokens * sizes.valueHeads, () => random.uniform()),
  };
}

/** Weights that make one number of outputs and states. */
function weighted({ output, state }: { output: readonly number[]; state: readonly number[] }): number {
  const weight = (value: number, index: number): number => value * Math.cos(index);
  return [...output, ...state].map(weight).reduce((sum, value) => sum + value, 0);
}

test("chunks give the outputs, states and gradients of the recurrence, for rows that fill no chunk and ones longer than one", async () => {
  const tokens = chunkSize + 9;
  const signals = randomSignals(tokens);
  const graph = new GraphBuilder();
  const parts = {
    mixed: graph.parameter("mixed", ["B*T", width]),
    decay: graph.parameter("decay", ["B*T", sizes.valueHeads]),
    strength: graph.parameter("strength", ["B*T", sizes.valueHeads]),
  };
  const { output, state } = deltaRule(graph, sizes, parts, graph.input("places", ["B*T"], "int64"));
  const outputs = tokens * sizes.valueHeads * sizes.valueSize;
  const states = sizes.valueHeads * sizes.keySize * sizes.valueSize;
  const loss = graph.add(
    graph.reduceSum(graph.mul(output, graph.input("w-output", output.shape)), [0, 1], false),
    graph.reduceSum(graph.mul(state, graph.input("w-state", state.shape)), [0, 1, 2, 3], false),
  );
  const names = ["mixed", "decay", "strength"] as const;
  const gradients = gradient(
    graph,
    loss,
    names.map((name) => parts[name]),
  );
  const compiled = await CompiledGraph.compile(
    { output, state, loss, ...Object.fromEntries(names.map((name, index) => [`d${name}`, gradients[index]!])) },
    { threads: 1 },
  );
  const weights = Float32Array.from({ length: outputs + states }, (_, index) => Math.cos(index));
  const floats = (values: ArrayLike<number>, shape: readonly number[]) => ({ data: Float32Array.from(values), shape });
  const results = await compiled.run(
    {
      mixed: floats(signals.mixed, [tokens, width]),
      decay: floats(signals.decay, [tokens, sizes.valueHeads]),
      strength: floats(signals.strength, [tokens, sizes.valueHeads]),
      places: { data: BigInt64Array.from({ length: tokens }, (_, token) => BigInt(token)), shape: [tokens] },
      "w-output": floats(weights.subarray(0, outputs), [tokens * sizes.valueHeads, sizes.valueSize]),
      "w-state": floats(weights.subarray(outputs), [1, sizes.valueHeads, sizes.keySize, sizes.valueSize]),
    },
    { B: 1, T: tokens, C: Math.ceil(tokens / chunkSize) },
  );
  await compiled.close();
  const expected = recurrent(signals, tokens);
  expect(largest(results["output"]!, expected.output)).toBeLessThan(1e-5);
  expect(largest(results["state"]!, expected.state)).toBeLessThan(1e-5);
  const step = 1e-5;
  for (const name of names) {
    const values = signals[name];
    const numeric = Array.from(values, (value, index) => {
      const at = (moved: number): number => {
        values[index] = moved;
        const result = weighted(recurrent(signals, tokens));
        values[index] = value;
        return result;
      };
      return (at(value + step) - at(value - step)) / (2 * step);
    });
    expect(largest(results[`d${name}`]!, numeric), name).toBeLessThan(2e-4);
  }
});

test("the inverse by blocks keeps its digits where keys are alike; doubling powers loses them all", async () => {
  const size = chunkSize;
  const random = new SeededRandom(1, "alike");
  const keys = Array.from({ length: size }, () => {
    const key = Array.from({ length: 16 }, (_, index) => (index === 0 ? 2.5 : 0) + random.normal() * 0.3);
    const length = Math.hypot(...key);
    return key.map((value) => value / length);
  });
  const lower = Float32Array.from({ length: size * size }, (_, index) => {
    const [row, column] = [Math.floor(index / size), index % size];
    const likeness = keys[row]!.reduce((sum, value, at) => sum + value * keys[column]![at]!, 0);
    return row > column ? likeness : 0;
  });
  const graph = new GraphBuilder();
  const compiled = await CompiledGraph.compile(
    { inverse: graph.inverseUnitLower(graph.input("lower", [size, size])) },
    { threads: 1 },
  );
  const { inverse } = await compiled.run({ lower: { data: lower, shape: [size, size] } }, {});
  await compiled.close();
  const exact = substituted(lower, size);
  expect(largest(inverse!, exact)).toBeLessThan(1e-5);
  expect(largest(doubled(lower, size), exact)).toBeGreaterThan(1);
});

/** (I + L)⁻¹ by forward substitution in double precision. */
function substituted(lower: Float32Array, size: number): Float64Array {
  const inverse = new Float64Array(size * size);
  for (let row = 0; row < size; row++)
    for (let column = 0; column <= row; column++) {
      let sum = row === column ? 1 : 0;
      for (let inner = column; inner < row; inner++)
        sum -= (lower[row * size + inner] as number) * (inverse[inner * size + column] as number);
      inverse[row * size + column] = sum;
    }
  return inverse;
}

/** (I + L)⁻¹ = (I + N)(I + N²)(I + N⁴)…, N = −L, in single precision. */
function doubled(lower: Float32Array, size: number): Float32Array {
  const times = (a: Float32Array, b: Float32Array): Float32Array =>
    Float32Array.from({ length: size * size }, (_, index) => {
      let sum = 0;
      for (let inner = 0; inner < size; inner++)
        sum = Math.fround(sum + a[Math.floor(index / size) * size + inner]! * b[inner * size + (index % size)]!);
      return sum;
    });
  const identity = (index: number): number => Number(index % (size + 1) === 0);
  let power: Float32Array = lower.map((value) => -value);
  let product: Float32Array = power.map((value, index) => value + identity(index));
  for (let degree = 2; degree < size; degree *= 2) {
    power = times(power, power);
    product = times(
      product,
      power.map((value, index) => value + identity(index)),
    );
  }
  return product;
}

function largest(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual).toHaveLength(expected.length);
  return Array.from(expected, (value, index) => Math.abs(value - (actual[index] as number))).reduce((a, b) =>
    Math.max(a, b),
  );
}
