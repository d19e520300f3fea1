import { InvalidError } from "@drydock/kit";
import { openInternVl, openInternVlChat } from "./internvl/open.ts";
import { openLlava } from "./llava/open.ts";
import { openMllama } from "./mllama/open.ts";
import type { FolderFacts, Model } from "./model.ts";
import { openNvilaLite, openNvilaParts } from "./nvila/open.ts";
import { openPaliGemma } from "./paligemma/open.ts";
import { openQwen25Vl } from "./qwen2-5-vl/open.ts";
import { openQwen35 } from "./qwen3-5/open.ts";
import { openQwen3Vl } from "./qwen3-vl/open.ts";

/** How a `config.json` of each `model_type` is opened. */
const families: Readonly<Record<string, (configFile: unknown, folder: FolderFacts) => Model>> = {
  internvl: openInternVl,
  internvl_chat: openInternVlChat,
  llava: openLlava,
  llava_llama: openNvilaParts,
  llava_next: openLlava,
  mllama: openMllama,
  nvila_lite: openNvilaLite,
  paligemma: openPaliGemma,
  qwen2_5_vl: openQwen25Vl,
  qwen3_5: openQwen35,
  qwen3_vl: openQwen3Vl,
  vila: openNvilaParts,
};

const noFolder: FolderFacts = { tokenId: () => undefined };

/**
 * @param configFile  what config.json holds
 * @param folder      what else the model's folder holds, for families whose config.json does not say it
 * @throws InvalidError `unsupported_architecture` with the list of those supported, `bad_model_config` naming the key
 */
export function openModel(configFile: unknown, folder = noFolder): Model {
  const type =
    typeof configFile === "object" && configFile !== null && "model_type" in configFile
      ? configFile.model_type
      : undefined;
  if (typeof type !== "string")
    throw new InvalidError("bad_model_config", 'config.json has no text "model_type"; is this a model folder?');
  const open = Object.hasOwn(families, type) ? families[type] : undefined;
  if (!open)
    throw new InvalidError(
      "unsupported_architecture",
      `config.json says model_type "${type}", which Drydock does not run; it runs ${Object.keys(families).join(", ")}`,
    );
  return open(configFile, folder);
}
