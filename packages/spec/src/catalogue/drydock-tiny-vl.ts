import { modelFactsFromConfig, type ModelFolderConfig } from "./from-config.ts";
import type { ModelFacts } from "./model-facts.ts";

/** Catalogue name of the small model that comes with Drydock. */
export const drydockTinyVlName = "drydock-tiny-vl";

/**
 * Facts of the small model that comes with Drydock, a Qwen3-VL of a few million parameters. Its sizes are those of the
 * `config.json` in its folder, so that a retrained one needs no change here.
 *
 * @throws InvalidError as {@link modelFactsFromConfig}
 */
export function drydockTinyVl(folder: ModelFolderConfig): ModelFacts {
  return {
    ...modelFactsFromConfig(drydockTinyVlName, folder),
    title: "Drydock Tiny VL",
    license: "Apache-2.0",
    provenance: { level: "published-config", note: "Read from the folder that comes with Drydock." },
  };
}
