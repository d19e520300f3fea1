import { InvalidError } from "@drydock/kit";
import type { Model } from "../models/model.ts";
import type { QuantizedFormat } from "../quantization/formats.ts";
import type { QuantizedWeights } from "../quantization/quantized-weights.ts";
import type { SafetensorsHeader } from "./safetensors.ts";

/** A model folder in Hugging Face layout, opened: its configuration and where each weight lies. No weight is read yet. */
export interface ModelFolder {
  readonly directory: string;
  readonly model: Model;
  /** The text of config.json as parsed, for copies. */
  readonly configFile: unknown;
  readonly headers: readonly SafetensorsHeader[];
  /** Its linear layers in few bits; null when it has none. */
  readonly quantized: QuantizedWeights | null;
}

/** @throws InvalidError for a folder whose weights are quantized already */
export function refuseQuantized({ directory, quantized }: ModelFolder, format: QuantizedFormat): void {
  if (quantized) throw alreadyQuantized(directory, quantized, format);
}

export function alreadyQuantized(
  directory: string,
  { layers }: QuantizedWeights,
  format: QuantizedFormat,
): InvalidError {
  const stored = [...new Set([...layers.values()].map(({ layout }) => layout.format))].join(", ");
  return new InvalidError(
    "already_quantized",
    `model ${directory} is quantized already (${stored}): to get ${format}, quantize the model that it was made from`,
  );
}
