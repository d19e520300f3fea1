import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import sharp from "sharp";
import type { Scene } from "../artwork/scene.ts";

/** Writes a scene as PNG. */
export async function writePicture(path: string, { width, height, pixels }: Scene): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(path);
}
