import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import type { ImageProcessor, PixelBounds } from "../image/image-processor.ts";
import { preprocessorHome } from "../weights/folder-parts.ts";
import type { Model } from "./model.ts";

/**
 * The image processor of a model folder, by its `preprocessor_config.json`, or by the part `image_processor` of the
 * `processor_config.json` that transformers 5 writes instead.
 * @throws InvalidError naming the file or field that is wrong
 */
export async function loadImageProcessor(
  model: Pick<Model, "imageProcessor">,
  directory: string,
  bounds: PixelBounds = {},
): Promise<ImageProcessor> {
  const own = join(preprocessorHome(directory), "preprocessor_config.json");
  const joint = join(directory, "processor_config.json");
  if (!existsSync(own) && existsSync(joint)) {
    const file = await readJson(joint);
    if (typeof file === "object" && file !== null && "image_processor" in file)
      return model.imageProcessor(file.image_processor, bounds);
  }
  return model.imageProcessor(await readJson(own), bounds);
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}
