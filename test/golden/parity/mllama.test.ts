import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TextTokenizer, openModel } from "@drydock/engine";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

describeParity("mllama", ["four-tiles", "two-looks", "three-tiles"]);

interface AnyConfig {
  readonly vision_config: object;
}

/** A config.json of the parity cases with the picture of the preprocessing cases. */
await describePreprocessing("mllama", async (folder) => {
  const path = join(import.meta.dirname, "mllama/four-tiles/model/config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as AnyConfig;
  const tokenizer = await TextTokenizer.load(folder);
  const vision = { ...config.vision_config, image_size: 16, patch_size: 4 };
  return openModel({ ...config, vision_config: vision, image_token_index: tokenizer.idOf("<|image|>") });
});
