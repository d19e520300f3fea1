import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import type { ImageProcessor, PixelBounds } from "../image/image-processor.ts";
import type { Model } from "./model.ts";

/** The image processor of a model folder. @throws InvalidError naming the file or field that is wrong */
export async function loadImageProcessor(
  model: Pick<Model, "imageProcessor">,
  directory: string,
  bounds: PixelBounds = {},
): Promise<ImageProcessor> {
  const path = join(directory, "preprocessor_config.json");
  let file: unknown;
  try {
    file = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  return model.imageProcessor(file, bounds);
}
