import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { TextTokenizer, openModel } from "@drydock/engine";
import { describeParity } from "./parity-suite.ts";
import { describePreprocessing } from "./preprocessing-suite.ts";

const reference = "its published source, restated";

describeParity("nvila", ["parts-tied", "parts-untied", "flat"], { hasAdapters: false, reference });

interface AnyConfig {
  readonly vision_tower_cfg: object;
}

/** A config.json of the parity cases with the tile of the preprocessing cases, which is that of the first of them. */
await describePreprocessing(
  "nvila",
  async (folder) => {
    const path = join(import.meta.dirname, "nvila/parts-tied/model/config.json");
    const config = JSON.parse(await readFile(path, "utf8")) as AnyConfig;
    const tokenizer = await TextTokenizer.load(folder);
    return openModel(config, { tokenId: (token) => tokenizer.idOf(token) });
  },
  reference,
);
