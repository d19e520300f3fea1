import { importCoco } from "./coco.ts";
import { importCsv } from "./csv.ts";
import type { KnownFormat } from "./detect-format.ts";
import { importLlavaJson } from "./llava-json.ts";
import { importOpenaiJsonl } from "./openai-jsonl.ts";
import type { Importer } from "./source-row.ts";
import { importViJsonl } from "./vi-jsonl.ts";
import { importYolo } from "./yolo.ts";

/** The importer of each format. */
export const importers: Readonly<Record<KnownFormat, Importer>> = {
  coco: importCoco,
  yolo: importYolo,
  "vi-jsonl": importViJsonl,
  "llava-json": importLlavaJson,
  "openai-jsonl": importOpenaiJsonl,
  csv: importCsv,
};
