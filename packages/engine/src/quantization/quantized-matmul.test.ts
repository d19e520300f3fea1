import { describe, expect, test } from "vitest";
import { gradientError } from "../../test/check-gradient.ts";
import { GraphBuilder } from "../graph/build.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import { SeededRandom } from "../training/random.ts";
import { packedShape, quantizedFormats, scalesShape, type QuantizedLayout } from "./formats.ts";
import { dequantizeWeight, quantizeWeight } from "./quantize-weight.ts";

/** Sizes that make blocks whole, and ones that leave the last block of a row or of a weight short. */
const sizes = [
  { in: 64, out: 6, blockSize: 32 },
  { in: 40, out: 5, blockSize: 16 },
  { in: 33, out: 3, blockSize: 16 },
];
const layouts = quantizedFormats.flatMap((format) => sizes.map((size): QuantizedLayout => ({ format, ...size })));

function randomValues(length: number, seed: string): Float32Array {
  const random = new SeededRandom(seed);
  return Float32Array.from({ length }, () => random.normal());
}

function partsOf(layout: QuantizedLayout) {
  const weight = quantizeWeight(randomValues(layout.in * layout.out, layout.format), layout);
  return {
    weight,
    feeds: {
      packed: { data: weight.packed, shape: packedShape(layout) },
      scales: { data: weight.scales, shape: scalesShape(layout) },
    },
  };
}

describe.each(layouts)("$format, [$out, $in] in blocks of $blockSize", (layout) => {
  const { weight, feeds } = partsOf(layout);
  const values = dequantizeWeight(weight, layout);

  test("the operators compute with the weight that the bytes stand for", async () => {
    const graph = new GraphBuilder();
    const packed = graph.weight("packed", packedShape(layout), "uint8");
    const scales = graph.weight("scales", scalesShape(layout));
    const x = graph.input("x", ["R", layout.in]);
    const compiled = await CompiledGraph.compile(
      { product: graph.quantizedMatMul(x, packed, scales, layout), weight: graph.dequantize(packed, scales, layout) },
      { threads: 1 },
    );
    const given = randomValues(4 * layout.in, "x");
    const results = await compiled.run({ ...feeds, x: { data: given, shape: [4, layout.in] } }, { R: 4 });
    await compiled.close();
    expect(results["weight"]).toEqual(values);
    for (let row = 0; row < 4; row++)
      for (let column = 0; column < layout.out; column++) {
        let sum = 0;
        for (let index = 0; index < layout.in; index++)
          sum += (given[row * layout.in + index] as number) * (values[column * layout.in + index] as number);
        expect(results["product"]?.[row * layout.out + column]).toBeCloseTo(sum, 4);
      }
  });

  test("the gradient to x goes through that weight", async () => {
    const error = await gradientError({
      shapes: [[2, layout.in]],
      frozen: feeds,
      build: (graph, [x]) =>
        graph.quantizedMatMul(
          x!,
          graph.weight("packed", packedShape(layout), "uint8"),
          graph.weight("scales", scalesShape(layout)),
          layout,
        ),
    });
    expect(error).toBeLessThan(2e-3);
  });
});

test("bytes and scales of another layout are refused where the graph is built", () => {
  const graph = new GraphBuilder();
  const layout: QuantizedLayout = { format: "int4", in: 64, out: 2, blockSize: 32 };
  const scales = graph.weight("s", [2, 2]);
  expect(() => graph.dequantize(graph.weight("p", [2, 2, 32], "uint8"), scales, layout)).toThrow(
    "int4 of [2, 64]: bytes are uint8 [2, 2, 32], not uint8 [2, 2, 16]",
  );
  expect(() => graph.dequantize(graph.weight("q", [2, 2, 16], "uint8"), graph.weight("t", [4]), layout)).toThrow(
    "int4 of [2, 64]: scales are [4], not [2, 2]",
  );
});
