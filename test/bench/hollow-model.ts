import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openModel, wholeForward } from "@drydock/engine";

/**
 * Writes a model folder whose weights are all zero, as a file with holes: it takes its size on no disk, and reads like any
 * other. For measurements of memory, where values do not matter.
 *
 * @param bytesEach  2 = bf16, 4 = float32
 */
export async function writeHollowModel(
  configFile: unknown,
  directory: string,
  bytesEach: 2 | 4,
): Promise<{ readonly fileBytes: number }> {
  const model = openModel(configFile);
  await mkdir(directory, { recursive: true });
  const header: Record<string, unknown> = {};
  let position = 0;
  for (const [name, shape] of wholeForward(model).variables.shapes) {
    const sizes = shape.map(Number);
    const end = position + sizes.reduce((count, size) => count * size, bytesEach);
    header[model.storedNames(name)[0] ?? name] = {
      dtype: bytesEach === 2 ? "BF16" : "F32",
      shape: sizes,
      data_offsets: [position, end],
    };
    position = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(Math.ceil((8 + text.length) / 64) * 64, " ");
  prefix.writeBigUInt64LE(BigInt(prefix.length - 8));
  text.copy(prefix, 8);
  const file = await open(join(directory, "model.safetensors"), "w");
  await file.write(prefix);
  await file.truncate(prefix.length + position);
  await file.close();
  await writeFile(join(directory, "config.json"), `${JSON.stringify(configFile, null, 2)}\n`);
  return { fileBytes: prefix.length + position };
}
