import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TextTokenizer, openModel } from "@drydock/engine";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

describeParity("qwen2-5-vl", ["tied", "untied", "all-windowed"]);

interface AnyConfig {
  readonly vision_config: object;
}

/** A config.json of the parity cases with the published patch size, which the preprocessor's defaults are made for. */
await describePreprocessing("qwen2-5-vl", async (folder) => {
  const path = join(import.meta.dirname, "qwen2-5-vl/tied/model/config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as AnyConfig;
  const tokenizer = await TextTokenizer.load(folder);
  const vision = { ...config.vision_config, patch_size: 14, window_size: 112 };
  return openModel({ ...config, vision_config: vision, image_token_id: tokenizer.idOf("<|image_pad|>") });
});
