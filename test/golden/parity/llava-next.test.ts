import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { TextTokenizer, openModel } from "@drydock/engine";
import { modelFactsFromConfig, pictureCost } from "@drydock/spec";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

describeParity("llava-next", ["mistral", "llama-tied", "qwen2"]);

async function readConfig(): Promise<object> {
  const path = join(import.meta.dirname, "llava-next/mistral/model/config.json");
  return JSON.parse(await readFile(path, "utf8")) as object;
}

await describePreprocessing("llava-next", async (folder) => {
  const tokenizer = await TextTokenizer.load(folder);
  return openModel({ ...(await readConfig()), image_token_index: tokenizer.idOf("<image>") });
});

test("plans count as many tokens as the engine makes", async () => {
  const config = await readConfig();
  const { visualTokens } = modelFactsFromConfig("mine", { config }).architecture;
  const processor = openModel(config).imageProcessor({ size: 16, crop_size: 16 }, {});
  for (const [width, height] of [
    [50, 37],
    [45, 75],
    [120, 18],
    [16, 16],
    [7, 30],
  ] as const)
    expect(visualTokens && pictureCost(visualTokens, { width, height }).tokens).toBe(
      processor.tokensOf({ width, height }),
    );
});
