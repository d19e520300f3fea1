import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tinyVisionConfig, twoRows } from "../../test/tiny-vision-model.ts";
import { loadModel } from "../models/load-model.ts";
import { createRandomModel } from "../models/random-model.ts";
import { TokenLoss } from "./token-loss.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-loss-"));
  await createRandomModel(tinyVisionConfig, directory, 1);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

async function* twice() {
  await Promise.resolve();
  yield twoRows();
  yield twoRows();
}

test("the loss is −log softmax of the logits at the labels, summed over batches", async () => {
  const batch = twoRows();
  const { folder, generator } = await loadModel({ directory, threads: 1 });
  const logits = await generator.logits(batch);
  await generator.close();
  const width = folder.model.vocabularySize;
  let expected = 0;
  batch.labels.forEach((label, row) => {
    if (label < 0) return;
    const scores = logits.subarray(row * width, (row + 1) * width);
    expected += Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0)) - (scores[label] as number);
  });
  const { loss, tokens } = await new TokenLoss(folder, 1).sum(twice());
  expect(tokens).toBe(2 * batch.labels.filter((label) => label >= 0).length);
  expect(loss).toBeCloseTo(2 * expected, 2);
});

test("the power of inputs is their mean square, for every linear layer", async () => {
  const { folder, generator } = await loadModel({ directory, threads: 1 });
  await generator.close();
  const power = await new TokenLoss(folder, 1).inputPower(twice());
  const { meanSquares } = power.get("model.language_model.layers.0.self_attn.q_proj") ?? {};
  // Behind a norm with gain 1: the squares of a row have the mean 1.
  const mean = (meanSquares?.reduce((sum, value) => sum + value, 0) ?? 0) / 16;
  expect(mean).toBeCloseTo(1, 1);
  expect(power.size).toBe(folder.model.forward({ hasImages: true }).variables.linears.size);
});
