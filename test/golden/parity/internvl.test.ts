import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TextTokenizer, openModel } from "@drydock/engine";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

describeParity("internvl", ["qwen3-tied", "qwen2-rms", "remote"]);

interface AnyConfig {
  readonly vision_config: object;
}

/** A config.json of the parity cases with the tile of the preprocessing cases; `remote` is the form with code of its own. */
await describePreprocessing("internvl", async (folder, form) => {
  const shape = form === "remote" ? "remote" : "qwen3-tied";
  const path = join(import.meta.dirname, "internvl", shape, "model/config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as AnyConfig;
  const tokenizer = await TextTokenizer.load(folder);
  const vision = { ...config.vision_config, image_size: 16, patch_size: 4 };
  return openModel(
    { ...config, vision_config: vision, force_image_size: 16, image_token_id: tokenizer.idOf("<IMG_CONTEXT>") },
    { tokenId: () => undefined },
  );
});
