import type { ModelBatch } from "../batch/model-batch.ts";
import { batchSymbols, textFeeds, visionFeeds, type Feeds } from "../models/qwen3-vl/inputs.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import { openModelFolder, readWeights } from "../weights/model-folder.ts";
import { lossFeeds, trainingGraph } from "./training-graph.ts";

/** Mean loss of a batch and its gradient by every weight of a model: what fidelity checks compare. */
export async function gradientsOf(
  directory: string,
  batch: ModelBatch,
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const folder = await openModelFolder(directory);
  const { forward, outputs } = trainingGraph(folder.config, batch.imageGrids.length > 0, () => true, null);
  const graph = await CompiledGraph.compile(outputs, { threads: 1 });
  const weights = await readWeights(folder, forward.variables.shapes.keys());
  const { feeds: loss, tokens } = lossFeeds(batch);
  const feeds: Feeds = {
    ...textFeeds(folder.config.text, batch),
    ...(batch.imageGrids.length > 0 ? visionFeeds(folder.config.vision, batch) : {}),
    ...loss,
  };
  for (const [name, shape] of forward.variables.shapes)
    feeds[name] = { data: weights.get(name) as Float32Array, shape: shape.map(Number) };
  const results = await graph.run(feeds, { ...batchSymbols(folder.config.vision, batch), L: tokens });
  await graph.close();
  const gradients = new Map(
    [...forward.variables.trained.keys()].map((name) => [
      name,
      (results[`gradient:${name}`] as Float32Array).map((value) => value / tokens),
    ]),
  );
  return { loss: (results["loss"]?.[0] ?? Number.NaN) / tokens, gradients };
}
