import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { retryUnavailable, type RetryPolicy } from "@drydock/kit";
import { ModelCard, type Lineage, type Scores, type WorkerConfig } from "@drydock/spec";
import { checkFence } from "../checkpoint/fence.ts";
import type { RunFolder } from "../checkpoint/run-folder.ts";
import { translateDiskError } from "../disk-error.ts";
import type { Trainer } from "../training/trainer.ts";

export const modelCardName = "drydock.json";

export interface Publication {
  readonly config: WorkerConfig;
  /** SHA-256 of what identifies the base's weights; null when unknown. */
  readonly baseDigest: string | null;
  readonly step: number;
  /** The checkpoint of another run that training began from. */
  readonly warmStart: Lineage["warmStart"];
  readonly scores: { readonly before: Scores | null; readonly after: Scores | null };
}

/** Where the files of a model's version are, without a slash at its end: `models/<name>/<version>`. */
export function modelKey(name: string, version: number): string {
  return `models/${name}/${version}`;
}

/** `drydock.json`: what `predict` must apply, and where the model came from. */
export function modelCardOf({ config, baseDigest, step, warmStart, scores }: Publication): ModelCard {
  const { spec } = config;
  const base = typeof spec.model === "string" ? spec.model : spec.model.uri;
  return ModelCard.parse({
    format: "drydock-model/1",
    name: config.modelName,
    version: config.modelVersion,
    kind: spec.mode === "lora" ? "adapter" : "full",
    base,
    task: spec.task,
    systemPrompt: config.systemPrompt,
    image: spec.image,
    lineage: {
      base,
      baseDigest,
      runId: config.runId,
      step,
      dataset: spec.dataset,
      datasetDigest: config.datasetDigest,
      mode: spec.mode,
      planDigest: config.planDigest,
      scores,
      warmStart,
    },
  });
}

/**
 * Puts the finished model into storage, Hugging Face or PEFT layout with `drydock.json` beside it. The card goes last: a version without one was never finished. Publishing again replaces the same files.
 *
 * @param key  key prefix without a slash at its end, see `modelKey`
 * @throws StaleEpochError when a newer attempt of the run has started
 */
export async function publishModel(
  folder: RunFolder,
  key: string,
  trainer: Trainer,
  card: ModelCard,
  scratch: { readonly directory: string; readonly diskRetry: RetryPolicy },
): Promise<void> {
  const directory = join(scratch.directory, "model");
  const names = await retryUnavailable(
    `write the model to ${directory}`,
    scratch.diskRetry,
    async () => await writeModel(trainer, card, directory),
  );
  await checkFence(folder);
  for (const name of [...names, modelCardName]) await folder.storage.putFile(`${key}/${name}`, join(directory, name));
  await rm(directory, { recursive: true, force: true });
}

/** Writes the model's files and its card into a folder; answers the names, the card left out. */
async function writeModel(trainer: Trainer, card: ModelCard, directory: string): Promise<string[]> {
  try {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    const names = await trainer.publish(directory);
    await writeFile(join(directory, modelCardName), `${JSON.stringify(card, null, 2)}\n`);
    return names;
  } catch (error) {
    throw translateDiskError(directory, error);
  }
}
