import { GraphBuilder } from "./build.ts";
import { chunksOf } from "./chunks.ts";
import type { GradientRule } from "./gradient-rule.ts";
import type { Body, Node } from "./ops.ts";
import { topologicalOrder } from "./topological-order.ts";

/**
 * The gradient of `Chunks` is `Chunks` again: its body computes a piece's forward part, then the gradients of the piece, from
 * pieces of the gradients of what was joined. Gradients of cut inputs are joined, those of whole ones are summed.
 */
export function chunksGradient(
  ...[graph, dy, y, all, { isReached, gradientOf }]: Parameters<GradientRule>
): ReturnType<GradientRule> {
  const body = y.body as Body;
  const inner = new GraphBuilder();
  const copies = new Map<Node, Node>();
  const copyOf = (node: Node): Node => copies.get(node) as Node;
  for (const node of [...body.pieces, ...body.whole, ...topologicalOrder([...body.joined, ...body.summed])])
    if (!copies.has(node)) copies.set(node, inner.adopt(node, node.inputs.map(copyOf)));

  const seeds = new Map<Node, Node>();
  const given: {
    readonly outer: Node;
    readonly inner: Node;
    readonly axis: number | null;
    readonly padding: number;
  }[] = [];
  const inputs = [...body.pieces, ...body.whole];
  inputs.forEach((node, index) =>
    given.push({
      outer: y.inputs[index] as Node,
      inner: copyOf(node),
      axis: body.axes[index] ?? null,
      padding: body.padding[index] ?? 0,
    }),
  );
  [...body.joined, ...body.summed].forEach((node, index) => {
    const outer = all[index] ?? (index === 0 ? dy : null);
    if (!outer) return;
    const seed = inner.input(`gradient${index}`, node.shape);
    seeds.set(copyOf(node), seed);
    given.push({ outer, inner: seed, axis: body.joinAxes[index] ?? null, padding: 0 });
  });

  const wanted = inputs.flatMap((node, index) => (isReached(y.inputs[index] as Node) ? [{ node, index }] : []));
  const parts = gradientOf(
    inner,
    seeds,
    wanted.map(({ node }) => copyOf(node)),
  );
  const found = wanted.flatMap(({ index }, at) => {
    const part = parts[at];
    return part ? [{ index, part, axis: body.axes[index] ?? null }] : [];
  });
  const joined = found.filter(({ axis }) => axis !== null);
  const summed = found.filter(({ axis }) => axis === null);
  const read = new Set(topologicalOrder(found.map(({ part }) => part)));
  const cut = given.filter((each) => each.axis !== null && read.has(each.inner));
  const whole = given.filter((each) => each.axis === null && read.has(each.inner));
  const results: (Node | null)[] = y.inputs.map(() => null);
  if (found.length === 0) return results;
  const outputs = chunksOf(
    graph,
    [...cut, ...whole].map(({ outer }) => outer),
    {
      pieces: cut.map((each) => each.inner),
      whole: whole.map((each) => each.inner),
      joined: joined.map(({ part }) => part),
      summed: summed.map(({ part }) => part),
      axes: cut.map(({ axis }) => axis as number),
      joinAxes: joined.map(({ axis }) => axis as number),
      padding: cut.map(({ padding }) => padding),
      length: body.length,
      chunks: body.chunks,
    },
  );
  [...joined, ...summed].forEach(({ index }, at) => (results[index] = outputs[at] as Node));
  return results;
}
