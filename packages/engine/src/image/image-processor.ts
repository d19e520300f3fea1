import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { smartResize } from "@drydock/spec";
import { z } from "zod";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import { resizeBicubic } from "./resize-bicubic.ts";

const PreprocessorFile = z.looseObject({
  patch_size: z.int().positive(),
  merge_size: z.int().positive().default(2),
  temporal_patch_size: z.int().positive().default(2),
  image_mean: z.tuple([z.number(), z.number(), z.number()]).default([0.5, 0.5, 0.5]),
  image_std: z.tuple([z.number(), z.number(), z.number()]).default([0.5, 0.5, 0.5]),
  min_pixels: z.number().optional(),
  max_pixels: z.number().optional(),
  size: z.looseObject({ shortest_edge: z.number().optional(), longest_edge: z.number().optional() }).optional(),
});

/** A picture as the image tower takes it. */
export interface ProcessedImage {
  /** `[height·width of the grid, 3·time·patch²]`, in merge-block order. */
  readonly patches: Float32Array;
  /** Patches: time, height, width. */
  readonly grid: { readonly time: number; readonly height: number; readonly width: number };
  /** Visual tokens: patches / merge². */
  readonly tokens: number;
  /** Pixels that the model sees. */
  readonly resized: { readonly width: number; readonly height: number };
}

/** Bounds on a picture's area in pixels; a run spec may narrow the model's own. */
export interface PixelBounds {
  readonly minPixels?: number | undefined;
  readonly maxPixels?: number | undefined;
}

/** Decode, resize and cut pictures as the model's `preprocessor_config.json` says (Qwen2-VL image processor). */
export class ImageProcessor {
  readonly #settings: z.infer<typeof PreprocessorFile>;
  readonly #bounds: { readonly minPixels: number; readonly maxPixels: number };

  constructor(file: unknown, bounds: PixelBounds = {}) {
    const parsed = PreprocessorFile.safeParse(file);
    if (!parsed.success) throw new InvalidError("bad_preprocessor", `preprocessor_config.json: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`);
    this.#settings = parsed.data;
    const { min_pixels: minPixels, max_pixels: maxPixels, size } = parsed.data;
    const factor = this.#factor;
    // Explicit pixel keys win over the older names, whose "edges" are pixel counts too.
    this.#bounds = {
      minPixels: bounds.minPixels ?? minPixels ?? size?.shortest_edge ?? 4 * factor ** 2,
      maxPixels: bounds.maxPixels ?? maxPixels ?? size?.longest_edge ?? 16384 * factor ** 2,
    };
    if (this.#bounds.minPixels > this.#bounds.maxPixels)
      throw new InvalidError("bad_pixel_bounds", `image.minPixels ${this.#bounds.minPixels} is above image.maxPixels ${this.#bounds.maxPixels}; set both`);
  }

  static async load(directory: string, bounds: PixelBounds = {}): Promise<ImageProcessor> {
    const path = join(directory, "preprocessor_config.json");
    let file: unknown;
    try {
      file = JSON.parse(await readFile(path, "utf8"));
    } catch (error) {
      throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
    }
    return new ImageProcessor(file, bounds);
  }

  /** @throws InvalidError for a picture that cannot be decoded or is too thin, naming it */
  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name));
  }

  /** The same for a picture that is decoded already. */
  processPixels(image: RgbImage): ProcessedImage {
    const resized = this.resizedSize(image);
    const { data } = resizeBicubic(image, resized.width, resized.height);
    const { patch_size: patch, merge_size: merge } = this.#settings;
    const grid = { time: 1, height: resized.height / patch, width: resized.width / patch };
    return { patches: this.#cut(data, grid), grid, tokens: (grid.height * grid.width) / merge ** 2, resized };
  }

  /** Size in pixels to which a picture of the given size is brought. */
  resizedSize(size: { readonly width: number; readonly height: number }): { width: number; height: number } {
    return smartResize(size, this.#factor, this.#bounds);
  }

  get #factor(): number {
    return this.#settings.patch_size * this.#settings.merge_size;
  }

  /** Normalises and flattens: rows in merge-block order, each laid out (channel, time, y, x). */
  #cut(data: Uint8Array, grid: { readonly height: number; readonly width: number }): Float32Array {
    const { patch_size: patch, merge_size: merge, temporal_patch_size: time, image_mean: mean, image_std: deviation } = this.#settings;
    const width = grid.width * patch;
    const rowSize = 3 * time * patch * patch;
    const patches = new Float32Array(grid.height * grid.width * rowSize);
    const table = [0, 1, 2].map((channel) => Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - (mean[channel] as number)) / (deviation[channel] as number)));
    let row = 0;
    for (let blockY = 0; blockY < grid.height; blockY += merge)
      for (let blockX = 0; blockX < grid.width; blockX += merge)
        for (let innerY = 0; innerY < merge; innerY++)
          for (let innerX = 0; innerX < merge; innerX++) {
            const top = (blockY + innerY) * patch;
            const left = (blockX + innerX) * patch;
            for (let channel = 0; channel < 3; channel++) {
              const lookUp = table[channel] as Float32Array;
              for (let frame = 0; frame < time; frame++) {
                let target = row * rowSize + (channel * time + frame) * patch * patch;
                for (let y = 0; y < patch; y++)
                  for (let x = 0; x < patch; x++) patches[target++] = lookUp[data[((top + y) * width + left + x) * 3 + channel] as number] as number;
              }
            }
            row++;
          }
    return patches;
  }
}
