import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TextTokenizer, openModel } from "@drydock/engine";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

describeParity("paligemma", ["one-key-head", "wide-heads", "grouped", "gemma2"]);

interface AnyConfig {
  readonly vision_config: object;
}

/** A config.json of the parity cases with the picture of the preprocessing cases. */
await describePreprocessing("paligemma", async (folder) => {
  const path = join(import.meta.dirname, "paligemma/one-key-head/model/config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as AnyConfig;
  const tokenizer = await TextTokenizer.load(folder, { spareChatTemplate: "" });
  const vision = { ...config.vision_config, image_size: 22, patch_size: 5 };
  return openModel({ ...config, vision_config: vision, image_token_index: tokenizer.idOf("<image>") });
});
