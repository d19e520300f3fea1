import type { Shape } from "../graph/shape.ts";
import type { Qwen3VlConfig } from "../models/qwen3-vl/config.ts";
import type { LoraPlacement, Variables } from "../models/variables.ts";
import { lossGraph } from "../training/training-graph.ts";
import { cutGraph, type Segment } from "./cut-graph.ts";

/** What a rank computes of a model. */
export interface StageOptions {
  readonly stage: number;
  readonly stages: number;
}

/**
 * The training graph of a model with every block of the image tower and every decoder layer as a segment of its own. The
 * layers of the decoder are shared evenly by the stages; the first one has the image tower and the embedding, the last one
 * the head, too.
 *
 * @returns the segments of one stage, and the weights of the whole model
 */
export function trainingSegments(
  config: Qwen3VlConfig,
  hasImages: boolean,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
  { stage, stages }: StageOptions = { stage: 0, stages: 1 },
): { readonly segments: readonly Segment[]; readonly variables: Variables } {
  const { forward, loss } = lossGraph(config, hasImages, isTrained, lora);
  const cuts = [...forward.visionBlocks, ...forward.output.layers];
  const segments = cutGraph(loss, cuts, forward.variables.trained);
  const tower = forward.visionBlocks.length;
  const { layers } = config.text;
  // Segment `tower + n` holds decoder layer n; the one after the last layer holds the head.
  const from = stage === 0 ? 0 : tower + firstLayer(layers, stage, stages);
  const to = stage === stages - 1 ? segments.length : tower + firstLayer(layers, stage + 1, stages);
  return { segments: segments.slice(from, to), variables: forward.variables };
}

/** Shapes of the weights that are not trained. */
export function frozenShapes({ shapes, trained }: Variables): ReadonlyMap<string, Shape> {
  return new Map([...shapes].filter(([name]) => !trained.has(name)));
}

function firstLayer(layers: number, stage: number, stages: number): number {
  return Math.floor((layers * stage) / stages);
}
