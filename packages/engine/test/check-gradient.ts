import { GraphBuilder } from "../src/graph/build.ts";
import { gradient } from "../src/graph/gradient.ts";
import type { Node } from "../src/graph/ops.ts";
import { evaluate, type Shape } from "../src/graph/shape.ts";
import { CompiledGraph } from "../src/runtime/compiled-graph.ts";
import type { Feeds } from "../src/runtime/feeds.ts";
import { SeededRandom } from "../src/training/random.ts";

export interface GradientCase {
  /** Shapes of the differentiated inputs. */
  readonly shapes: readonly Shape[];
  /** int64 inputs by name. */
  readonly integers?: Readonly<Record<string, { readonly values: readonly number[]; readonly shape: Shape }>>;
  /** Further feeds by name: weights that are not differentiated. */
  readonly frozen?: Feeds;
  readonly symbols?: Readonly<Record<string, number>>;
  readonly build: (graph: GraphBuilder, inputs: readonly Node[], integer: (name: string) => Node) => Node;
  /** Distance between the two points of a difference. */
  readonly spacing?: number;
}

/**
 * Largest relative error of the graph's gradients against central differences of its own forward pass, over all inputs.
 * The loss is a fixed random weighting of every output element, so that no direction hides.
 */
export async function gradientError({
  shapes,
  integers = {},
  frozen = {},
  symbols = {},
  build,
  spacing = 1e-2,
}: GradientCase): Promise<number> {
  const graph = new GraphBuilder();
  const parameters = shapes.map((shape, index) => graph.parameter(`x${index}`, shape));
  const integer = (name: string): Node => graph.input(name, integers[name]?.shape ?? [], "int64");
  const y = build(graph, parameters, integer);
  const weighted = graph.mul(y, graph.input("weighting", y.shape));
  const loss = graph.reduceSum(
    weighted,
    y.shape.map((_, axis) => axis),
    false,
  );
  const outputs: Record<string, Node> = { loss };
  gradient(graph, loss, parameters).forEach((node, index) => (outputs[`gradient${index}`] = node));
  const compiled = await CompiledGraph.compile(outputs, { threads: 1 });

  const random = new SeededRandom("gradient");
  const sizesOf = (shape: Shape): number[] => shape.map((size) => evaluate(size, symbols));
  const filled = (shape: Shape) => {
    const sizes = sizesOf(shape);
    return {
      data: Float32Array.from({ length: sizes.reduce((count, size) => count * size, 1) }, () => random.normal()),
      shape: sizes,
    };
  };
  const feeds = {
    ...frozen,
    weighting: filled(y.shape),
    ...Object.fromEntries(shapes.map((shape, index) => [`x${index}`, filled(shape)])),
    ...Object.fromEntries(
      Object.entries(integers).map(([name, { values, shape }]) => [
        name,
        { data: BigInt64Array.from(values, BigInt), shape: sizesOf(shape) },
      ]),
    ),
  };
  const run = async (): Promise<Record<string, Float32Array>> => await compiled.run(feeds, symbols);
  const analytic = await run();
  const lossNow = async (): Promise<number> => (await run())["loss"]?.[0] ?? Number.NaN;

  let worst = 0;
  for (let input = 0; input < shapes.length; input++) {
    const { data } = feeds[`x${input}` as "weighting"];
    const expected = new Float32Array(data.length);
    for (let index = 0; index < data.length; index++) {
      const kept = data[index] as number;
      data[index] = kept + spacing;
      const above = await lossNow();
      data[index] = kept - spacing;
      const below = await lossNow();
      data[index] = kept;
      expected[index] = (above - below) / (2 * spacing);
    }
    const actual = analytic[`gradient${input}`] as Float32Array;
    const size = Math.max(1e-3, ...expected.map(Math.abs));
    worst = Math.max(worst, ...expected.map((value, index) => Math.abs(value - (actual[index] as number)) / size));
  }
  await compiled.close();
  return worst;
}
