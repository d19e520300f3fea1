import type { GraphBuilder } from "./build.ts";
import { gradients } from "./gradients.ts";
import type { Node } from "./ops.ts";
import { topologicalOrder } from "./topological-order.ts";

/** Those of `order`, inputs first, that depend on one of `parameters`, and the parameters. */
export function reachedFrom(parameters: Iterable<Node>, order: readonly Node[]): ReadonlySet<Node> {
  const reached = new Set<Node>(parameters);
  for (const node of order) if (node.inputs.some((input) => reached.has(input))) reached.add(node);
  return reached;
}

/**
 * dL/dp for each of `parameters`, as new nodes of the same graph. Nodes that no parameter reaches get no backward pass.
 *
 * @param loss  a scalar
 * @returns one node per parameter, of its shape; zeros where the loss does not reach it
 */
export function gradient(graph: GraphBuilder, loss: Node, parameters: readonly Node[]): Node[] {
  const parts = gradientOf(graph, new Map([[loss, graph.fill(1, loss.shape)]]), parameters);
  return parameters.map((parameter, index) => parts[index] ?? graph.fill(0, parameter.shape));
}

/**
 * Σ dL/dy · dy/dp for each of `parameters`, given dL/dy of some nodes: the part of a gradient that goes through them.
 *
 * @param seeds  dL/dy by y
 * @returns one node per parameter, of its shape; null where no y depends on it
 */
export function gradientOf(
  graph: GraphBuilder,
  seeds: ReadonlyMap<Node, Node>,
  parameters: readonly Node[],
): (Node | null)[] {
  const order = topologicalOrder([...seeds.keys()]);
  const reached = reachedFrom(parameters, order);
  const pending = new Map<Node, (Node | null)[]>();
  const accumulate = (node: Node, index: number, value: Node): void => {
    const slots = pending.get(node) ?? [];
    const before = slots[index] ?? null;
    slots[index] = before ? graph.add(before, value) : value;
    pending.set(node, slots);
  };
  for (const [node, seed] of seeds) accumulate(node, 0, seed);
  for (const node of order.toReversed()) {
    const slots = pending.get(node);
    if (!slots || !reached.has(node)) continue;
    if (node.op === "Output") {
      accumulate(node.inputs[0] as Node, node.attributes["index"] as number, slots[0] as Node);
      continue;
    }
    if (node.inputs.length === 0) continue;
    const dy = slots[0] ?? graph.fill(0, node.shape);
    const parts = gradients[node.op](graph, dy, node, slots, { isReached: (input) => reached.has(input), gradientOf });
    node.inputs.forEach((input, index) => {
      const part = parts[index];
      if (part && reached.has(input)) accumulate(input, 0, part);
    });
  }
  return parameters.map((parameter) => pending.get(parameter)?.[0] ?? null);
}
