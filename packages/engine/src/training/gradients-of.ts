import type { ModelBatch } from "../batch/model-batch.ts";
import type { ArrayLimits } from "../models/variables.ts";
import type { Feeds } from "../runtime/feeds.ts";
import { SegmentedPass } from "../segments/segmented-pass.ts";
import { trainingSegments } from "../segments/training-segments.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { FrozenWeights } from "../weights/frozen-weights.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { readWeights } from "../weights/read-weights.ts";
import { BackwardPass } from "./backward-pass.ts";
import { lossFeeds, trainingGraph } from "./training-graph.ts";

/**
 * Mean loss of a batch and its gradient by every weight of a model: what fidelity checks compare.
 *
 * @param recomputes  layer by layer, with activations computed again, rather than in one piece
 * @param limits      of large arrays, whatever the batch
 */
export async function gradientsOf(
  directory: string,
  batch: ModelBatch,
  recomputes = false,
  limits: ArrayLimits = {},
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const folder = await openModelFolder(directory);
  const { model } = folder;
  const hasImages = batch.pictures.length > 0;
  const { shapes } = trainingGraph(model, hasImages, () => true, null).forward.variables;
  const weights = await readWeights(folder, shapes.keys());
  const { feeds: loss, tokens } = lossFeeds(batch);
  const feeds: Feeds = {
    ...model.feeds(batch),
    ...loss,
  };
  for (const [name, shape] of shapes)
    feeds[name] = { data: weights.get(name) as Float32Array, shape: shape.map(Number) };
  const gradients = new Map([...weights].map(([name, { length }]) => [name, sharedFloats(length)]));
  const all = (): boolean => true;
  const place = { adds: false, threads: 1, lane: 0 };
  const pass = recomputes
    ? await SegmentedPass.compile(
        trainingSegments(model, hasImages, all, null, undefined, limits).segments,
        new FrozenWeights(folder),
        new Map(),
        place,
      )
    : await BackwardPass.compile(folder, { ...place, hasImages, isTrained: all, lora: null, limits });
  const lossSum = await pass.run(feeds, { ...model.symbols(batch), L: tokens }, gradients);
  await pass.close();
  return {
    loss: lossSum / tokens,
    gradients: new Map([...gradients].map(([name, sum]) => [name, sum.map((value) => value / tokens)])),
  };
}
