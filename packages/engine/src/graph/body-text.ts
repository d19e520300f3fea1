import type { Body } from "./ops.ts";
import { topologicalOrder } from "./topological-order.ts";

/** A body as a text that is equal for equal bodies. */
export function bodyText(body: Body): string {
  const roots = [...body.joined, ...body.summed];
  const order = [...new Set([...body.pieces, ...body.whole, ...topologicalOrder(roots)])];
  const numbers = new Map(order.map((node, index) => [node, index]));
  const listing = order.map(({ op, inputs, attributes, shape }) => [
    op,
    inputs.map((input) => numbers.get(input)),
    attributes,
    shape.join(),
  ]);
  const { axes, joinAxes, padding, length, chunks } = body;
  return JSON.stringify([
    listing,
    roots.map((root) => numbers.get(root)),
    body.joined.length,
    axes,
    joinAxes,
    padding,
    [length, chunks],
  ]);
}
