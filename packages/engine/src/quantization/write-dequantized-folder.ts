import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError } from "@drydock/kit";
import { copyConfig } from "../weights/copy-config.ts";
import { copyOtherFiles } from "../weights/folder-parts.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { bytesPerElement, readTensorBytes, writeTensorsInTurn, type TensorSource } from "../weights/safetensors.ts";
import { undoScales } from "./activation-scales.ts";
import { dequantizeWeight } from "./quantize-weight.ts";
import { quantizedNames } from "./quantized-weights.ts";

/**
 * Writes the model of a quantized folder with the float32 weights that its bytes stand for: for programs that cannot read the
 * bytes, and to check those that can.
 *
 * @throws InvalidError `not_quantized` when the folder holds no quantized weights
 */
export async function writeDequantizedFolder(directory: string, out: string): Promise<void> {
  const { model, headers, quantized } = await openModelFolder(directory);
  if (!quantized) throw new InvalidError("not_quantized", `model ${directory} holds no quantized weights`);
  const stored = headers.flatMap((header) => [...header.tensors.values()].map((entry) => ({ header, entry })));
  const taken = new Set<string>();
  const layers: TensorSource[] = [];
  for (const [path, { layout, hasInputScales }] of quantized.layers) {
    const part = async (name: string) => (await quantized.get(`${path}.weight.${name}`)).data;
    const found = quantizedNames(model, `${path}.weight`).find((name) =>
      stored.some(({ entry }) => entry.name === name),
    );
    const name = found ?? `${path}.weight`;
    for (const { entry } of stored) if (entry.name === name || entry.name.startsWith(`${name}.`)) taken.add(entry.name);
    const read = async (): Promise<Float32Array> => {
      const packed = (await part("packed")) as Uint8Array;
      const values = dequantizeWeight({ packed, scales: (await part("scales")) as Float32Array }, layout);
      if (hasInputScales) undoScales(values, (await part("input_scales")) as Float32Array);
      return values;
    };
    layers.push({ name, type: "F32", shape: [layout.out, layout.in], read });
  }
  const others = stored
    .filter(({ entry }) => !taken.has(entry.name))
    .map(({ header, entry: { name, type, shape } }): TensorSource => ({
      name,
      type,
      shape,
      read: async () => await readTensorBytes(header, name),
    }));
  await mkdir(out, { recursive: true });
  await copyOtherFiles(directory, out);
  await copyConfig(directory, out, { quantization_config: undefined });
  const inOrder = [...others, ...layers].sort((a, b) => bytesPerElement[b.type] - bytesPerElement[a.type]);
  await writeTensorsInTurn(join(out, "model.safetensors"), inOrder);
}
