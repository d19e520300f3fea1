import type { GraphBuilder } from "./build.ts";
import type { Node } from "./ops.ts";

/** dL/d(outputs) of a node, null where the loss does not reach. The first is never asked for when null. */
export type OutputGradients = readonly (Node | null)[];

/** What a rule may ask of the walk through the graph. */
export interface Walk {
  /** Whether somebody wants the gradient of a node. */
  isReached(node: Node): boolean;
  /** The walk through another graph: see gradient.ts. */
  gradientOf(graph: GraphBuilder, seeds: ReadonlyMap<Node, Node>, parameters: readonly Node[]): (Node | null)[];
}

/** Given dL/dy, answers dL/dx for every input x of y; null where no gradient flows. */
export type GradientRule = (
  graph: GraphBuilder,
  dy: Node,
  y: Node,
  all: OutputGradients,
  walk: Walk,
) => readonly (Node | null)[];
