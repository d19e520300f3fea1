import { expect, test } from "vitest";
import { GraphBuilder } from "../graph/build.ts";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import type { Node } from "../graph/ops.ts";
import { cutGraph, type Segment } from "./cut-graph.ts";

/** Three layers `x·Wₙᵀ`, the first one's input added again before the last; the loss is the sum. */
function layers(): Segment[] {
  const graph = new GraphBuilder();
  const weights = new Map([0, 1, 2].map((layer) => [`w${layer}`, graph.parameter(`w${layer}`, [4, 4])]));
  const through = (x: Node, layer: number): Node => graph.gemm(x, weights.get(`w${layer}`) as Node, { transB: true });
  const first = through(graph.input("x", ["B", 4]), 0);
  const second = through(first, 1);
  const third = through(graph.add(second, first), 2);
  return cutGraph(graph.reduceSum(third, [0, 1], false), [first, second], weights);
}

test("a value that skips a segment crosses to the one that reads it", () => {
  const segments = layers();
  expect(segments).toHaveLength(3);
  const [first, second, third] = segments as [Segment, Segment, Segment];
  expect(first.takes).toEqual([]);
  expect(second.takes).toEqual(first.gives);
  expect(third.takes.map(({ name }) => name)).toEqual([...first.gives, ...second.gives].map(({ name }) => name));
  expect(third.gives).toEqual([]);
  expect(segments.map(({ reads }) => [...reads])).toEqual([["x", "w0"], ["w1"], ["w2"]]);
});

test("each segment completes its own weight, and asks for the gradients of what it gave", () => {
  const [first, second, third] = layers() as [Segment, Segment, Segment];
  expect([first, second, third].map(({ completes }) => completes)).toEqual([["w0"], ["w1"], ["w2"]]);
  const [value] = first.gives;
  const inputs = (segment: Segment): string[] => [...(segment.backward(false)?.inputs.values() ?? [])];
  expect(inputs(first)).toEqual(["x", "w0", `d:${value?.name}`]);
  const results = [...(third.backward(false)?.results.values() ?? [])];
  expect(results).toContain("loss");
  expect(results).toContain("gradient:w2");
  expect(results.filter((name) => name.startsWith("d:"))).toHaveLength(2);
  expect(third.forward).toBeNull();
});

test("a graph that adds takes the sums as inputs", () => {
  const [first] = layers() as [Segment];
  expect([...(first.backward(true)?.inputs.values() ?? [])]).toContain("sum:w0");
  expect([...(first.backward(false)?.inputs.values() ?? [])]).not.toContain("sum:w0");
});

test("layers that are built alike are the same bytes", () => {
  const graph = new GraphBuilder();
  const weights = new Map([0, 1, 2, 3].map((layer) => [`w${layer}`, graph.parameter(`w${layer}`, [4, 4])]));
  let x = graph.input("x", ["B", 4]);
  const cuts = [...weights.values()].map(
    (weight) => (x = graph.unary("Tanh", graph.gemm(x, weight, { transB: true }))),
  );
  const segments = cutGraph(graph.reduceSum(x, [0, 1], false), cuts.slice(0, 3), weights);
  const bytes = segments.map(
    ({ forward }) => forward && Buffer.from(encodeOnnx(forward.outputs).model).toString("hex"),
  );
  expect(bytes[1]).toBe(bytes[2]);
  expect(bytes[0]).toBe(bytes[1]);
});
