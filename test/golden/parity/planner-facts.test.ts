import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openModel, openModelFolder } from "@drydock/engine";
import { countParameters, modelFactsFromConfig } from "@drydock/spec";

/** What the planner reads of a folder, held to the models that the reference saved. */
describe.each([
  ["qwen3-vl", "tied"],
  ["qwen3-vl", "untied"],
  ["internvl", "qwen3-tied"],
  ["internvl", "qwen2-rms"],
  ["internvl", "remote"],
  ["llava", "llama"],
  ["llava", "mistral-full"],
  ["llava", "qwen2-tied"],
  ["llava-next", "mistral"],
  ["llava-next", "llama-tied"],
  ["llava-next", "qwen2"],
  ["paligemma", "one-key-head"],
  ["paligemma", "wide-heads"],
  ["paligemma", "grouped"],
  ["paligemma", "gemma2"],
  ["mllama", "four-tiles"],
  ["mllama", "two-looks"],
  ["mllama", "three-tiles"],
  ["nvila", "parts-tied"],
  ["nvila", "parts-untied"],
  ["nvila", "flat"],
  ["qwen2-5-vl", "tied"],
  ["qwen2-5-vl", "untied"],
])("the plan of %s, %s", (family, shape) => {
  const folder = join(import.meta.dirname, family, shape, "model");
  const config = async (): Promise<unknown> => JSON.parse(await readFile(join(folder, "config.json"), "utf8"));

  test("counts the parameters that the file holds", async () => {
    const { headers } = await openModelFolder(folder);
    const tensors = headers.flatMap((header) => [...header.tensors.values()]);
    const stored = tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((size, side) => size * side, 1), 0);
    const facts = modelFactsFromConfig("mine", { config: await config() });
    expect(countParameters(facts.architecture).total).toBe(stored);
  });

  test("has the context window and the boxes of the engine's model", async () => {
    const facts = modelFactsFromConfig("mine", { config: await config() });
    const model = openModel(await config(), { tokenId: () => 3 });
    expect(facts.contextWindow).toBe(model.contextWindow);
    expect(facts.boxConvention).toBe(model.boxConvention);
  });
});
