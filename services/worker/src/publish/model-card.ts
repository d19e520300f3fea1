import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { warnOfDifferingPrompt } from "@drydock/data";
import { InvalidError } from "@drydock/kit";
import { ModelCard } from "@drydock/spec";
import { modelCardName } from "./publish-model.ts";

/** The card of a model folder; null for a folder that Drydock did not make. @throws InvalidError when it is damaged */
export async function readModelCard(directory: string): Promise<ModelCard | null> {
  const path = join(directory, modelCardName);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch {
    return null;
  }
  try {
    return ModelCard.parse(JSON.parse(text));
  } catch (error) {
    throw new InvalidError(
      "invalid_model_card",
      `${path} is not a Drydock model card: publish the model again, or remove the file to use the model without its system prompt`,
      { cause: error },
    );
  }
}

export interface PromptChoice {
  readonly systemPrompt: string;
  /** Told to the user when what was given is not what the model was trained with. */
  readonly warnings: readonly string[];
}

/** The system prompt to use: the one given, else the one that the model was trained with. A differing one is warned about. */
export function choosePrompt(card: ModelCard | null, given: string | undefined): PromptChoice {
  const trained = card?.systemPrompt ?? null;
  const systemPrompt = given ?? trained ?? "";
  const warning = warnOfDifferingPrompt(trained, systemPrompt);
  return { systemPrompt, warnings: warning === null ? [] : [warning] };
}

/** The picture settings to use, chosen and warned about in the same way. Units: pixels. */
export function chooseImageSettings(
  card: ModelCard | null,
  given: { readonly maxPixels?: number | undefined; readonly minPixels?: number | undefined },
): { image: ModelCard["image"]; warnings: string[] } {
  const warnings: string[] = [];
  const image: { minPixels?: number; maxPixels?: number } = { ...definedOnly(card?.image ?? {}) };
  for (const name of ["minPixels", "maxPixels"] as const) {
    const value = given[name];
    if (value === undefined) continue;
    if (card !== null && card.image[name] !== value)
      warnings.push(
        `${name} ${value} differs from the ${card.image[name] ?? "default"} that ${card.name}@${card.version} was trained with: answers may be worse`,
      );
    image[name] = value;
  }
  return { image, warnings };
}

function definedOnly(image: { minPixels?: number | undefined; maxPixels?: number | undefined }): {
  minPixels?: number;
  maxPixels?: number;
} {
  return {
    ...(image.minPixels === undefined ? {} : { minPixels: image.minPixels }),
    ...(image.maxPixels === undefined ? {} : { maxPixels: image.maxPixels }),
  };
}
