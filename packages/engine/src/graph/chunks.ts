/*
 * Work on one piece of an axis after the other, so that a large array in between exists for one piece at a time only. Its
 * backward pass (chunks-gradient.ts) goes over the pieces again and computes each piece's forward part once more.
 */
import { GraphBuilder } from "./build.ts";
import type { Body, Node } from "./ops.ts";
import type { ChunkDimensions, Dimension } from "./shape.ts";

/** An input that is cut along one of its axes. */
export interface CutInput {
  readonly node: Node;
  readonly axis: number;
  /** What fills the last piece up where the axis does not come out even; default 0. */
  readonly padding?: number;
}

export interface ChunkedWork {
  /** The inputs that are cut; the cut axis is equally long in all of them. */
  readonly cut: readonly CutInput[];
  readonly whole: readonly Node[];
  /** From `chunkDimensions`. */
  readonly chunks: ChunkDimensions;
  /** Answers, given the pieces and the whole inputs as nodes of `graph`, what each piece gives. */
  readonly write: (graph: GraphBuilder, pieces: readonly Node[], whole: readonly Node[]) => ChunkResults;
}

/** What a piece gives. A piece's filled-up end must add nothing to what is summed. */
export interface ChunkResults {
  /** Parts of a larger array along an axis as long as the piece. */
  readonly joined?: readonly { readonly node: Node; readonly axis: number }[];
  /** Addends of a sum over all pieces. */
  readonly summed?: readonly Node[];
}

/** @returns the joined results, then the sums */
export function inChunks(graph: GraphBuilder, work: ChunkedWork): Node[] {
  const { cut, whole, chunks } = work;
  const inner = new GraphBuilder();
  const pieces = cut.map(({ node, axis }, index) =>
    inner.input(`piece${index}`, node.shape.with(axis, chunks.size), node.dtype),
  );
  const entire = whole.map((node, index) => inner.input(`whole${index}`, node.shape, node.dtype));
  const { joined = [], summed = [] } = work.write(inner, pieces, entire);
  const body: Body = {
    pieces,
    whole: entire,
    joined: joined.map(({ node }) => node),
    summed,
    axes: cut.map(({ axis }) => axis),
    joinAxes: joined.map(({ axis }) => axis),
    padding: cut.map(({ padding = 0 }) => padding),
    length: cut[0]?.node.shape[cut[0].axis] as Dimension,
    chunks,
  };
  return chunksOf(graph, [...cut.map(({ node }) => node), ...whole], body);
}

/** The outputs of a `Chunks` node. */
export function chunksOf(graph: GraphBuilder, inputs: readonly Node[], body: Body): Node[] {
  const node = graph.chunks(inputs, body);
  return [node, ...node.furtherShapes.map((_, index) => graph.output(node, index + 1))];
}
