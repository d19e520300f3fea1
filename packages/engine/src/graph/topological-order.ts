import type { Node } from "./ops.ts";

/**
 * All nodes that `roots` need, inputs first. Iterative, so that deep graphs cannot overflow the stack.
 *
 * @param endsAt  nodes that are listed, but not what they need
 */
export function topologicalOrder(roots: readonly Node[], endsAt: (node: Node) => boolean = () => false): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  const stack: { node: Node; next: number }[] = roots.map((node) => ({ node, next: 0 }));
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    if (top.next === 0 && seen.has(top.node)) {
      stack.pop();
      continue;
    }
    seen.add(top.node);
    const input = endsAt(top.node) ? undefined : top.node.inputs[top.next++];
    if (input) {
      if (!seen.has(input)) stack.push({ node: input, next: 0 });
    } else {
      order.push(top.node);
      stack.pop();
    }
  }
  return order;
}
