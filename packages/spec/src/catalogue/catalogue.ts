import { cosmosReason1_7b } from "./cosmos-reason1-7b.ts";
import { drydockTinyVlName } from "./drydock-tiny-vl.ts";
import { internvl35_8b } from "./internvl3.5-8b.ts";
import type { ModelFacts } from "./model-facts.ts";
import { nvilaLite2b } from "./nvila-lite-2b.ts";
import { qwen25Vl3b } from "./qwen2.5-vl-3b.ts";
import { qwen25Vl7b } from "./qwen2.5-vl-7b.ts";
import { qwen3Vl2b } from "./qwen3-vl-2b.ts";
import { qwen3Vl4b } from "./qwen3-vl-4b.ts";
import { qwen3Vl8b } from "./qwen3-vl-8b.ts";
import { qwen35_27b } from "./qwen3.5-27b.ts";
import { qwen35_4b } from "./qwen3.5-4b.ts";
import { qwen35_9b } from "./qwen3.5-9b.ts";

/** Every base model whose facts are known without opening its files, small to large. */
export const catalogue: readonly ModelFacts[] = [
  nvilaLite2b,
  qwen3Vl2b,
  qwen25Vl3b,
  qwen3Vl4b,
  qwen35_4b,
  qwen25Vl7b,
  cosmosReason1_7b,
  internvl35_8b,
  qwen3Vl8b,
  qwen35_9b,
  qwen35_27b,
];

/** Names a run spec may use; `drydock-tiny-vl` needs its folder's `config.json` before it can be planned. */
export const catalogueNames: readonly string[] = [drydockTinyVlName, ...catalogue.map((model) => model.name)];

/** Facts of a catalogue model, or undefined. The name's case does not matter. */
export function findModel(name: string): ModelFacts | undefined {
  const wanted = name.toLowerCase();
  return catalogue.find((model) => model.name === wanted);
}
