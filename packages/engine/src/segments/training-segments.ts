import type { Shape } from "../graph/shape.ts";
import type { Model } from "../models/model.ts";
import type { ArrayLimits, LoraPlacement, Variables } from "../models/variables.ts";
import { lossGraph } from "../training/training-graph.ts";
import { cutGraph, type Segment, type Value } from "./cut-graph.ts";

/** What a rank computes of a model. */
export interface StageOptions {
  readonly stage: number;
  readonly stages: number;
}

export interface StageSegments {
  readonly segments: readonly Segment[];
  /** Values that come from the stage before: what this one and later ones take. */
  readonly incoming: readonly Value[];
  /** Values that go to the next stage, some of them only passed on. */
  readonly outgoing: readonly Value[];
  /** Weights of the whole model. */
  readonly variables: Variables;
  /** Trained weights that the segments read, by whether their gradients are completed here or in an earlier stage. */
  readonly own: readonly string[];
  readonly borrowed: readonly string[];
}

/**
 * The training graph of a model with every block of the image tower and every decoder layer as a segment of its own. The
 * layers of the decoder are shared evenly by the stages; the first one has the image tower and the embedding, the last one
 * the head, too.
 */
export function trainingSegments(
  model: Model,
  hasImages: boolean,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
  { stage, stages }: StageOptions = { stage: 0, stages: 1 },
  limits: ArrayLimits = {},
): StageSegments {
  const { forward, loss } = lossGraph(model, hasImages, isTrained, lora, limits);
  const cuts = [...forward.visionBlocks, ...forward.layers];
  const segments = cutGraph(loss, cuts, forward.variables.trained);
  const tower = forward.visionBlocks.length;
  const layers = forward.layers.length;
  // Segment `tower + n` holds decoder layer n; the one after the last layer holds the head.
  const from = stage === 0 ? 0 : tower + firstLayer(layers, stage, stages);
  const to = stage === stages - 1 ? segments.length : tower + firstLayer(layers, stage + 1, stages);
  const here = segments.slice(from, to);
  const own = here.flatMap(({ completes }) => completes);
  const read = [...forward.variables.trained.keys()].filter((name) => here.some(({ reads }) => reads.has(name)));
  return {
    segments: here,
    incoming: valuesAcross(segments, from),
    outgoing: valuesAcross(segments, to),
    variables: forward.variables,
    own,
    borrowed: read.filter((name) => !own.includes(name)),
  };
}

/** What segments before position `at` give to those from it on, in an order that is the same on every rank. */
function valuesAcross(segments: readonly Segment[], at: number): Value[] {
  const taken = new Set(segments.slice(at).flatMap(({ takes }) => takes.map(({ name }) => name)));
  return segments.slice(0, at).flatMap(({ gives }) => gives.filter(({ name }) => taken.has(name)));
}

/** Shapes of the weights that are not trained. */
export function frozenShapes({ shapes, trained }: Variables): ReadonlyMap<string, Shape> {
  return new Map([...shapes].filter(([name]) => !trained.has(name)));
}

function firstLayer(layers: number, stage: number, stages: number): number {
  return Math.floor((layers * stage) / stages);
}

/** Trained weights that a stage reads. */
export function trainedNamesOf(
  model: Model,
  isTrained: (name: string) => boolean,
  lora: LoraPlacement | null,
  place: StageOptions,
): ReadonlySet<string> {
  const { own, borrowed } = trainingSegments(model, true, isTrained, lora, place);
  return new Set([...own, ...borrowed]);
}
