import { InvalidError } from "@drydock/kit";
import { smartResize } from "@drydock/spec";
import { z } from "zod";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import type { ImageProcessor, PixelBounds, PixelSize, ProcessedImage } from "./image-processor.ts";
import { namedPicture } from "./named-picture.ts";
import { resizeBicubic, type PassOrder } from "./resize.ts";

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

/** Decode, resize and cut pictures as the model's `preprocessor_config.json` says (Qwen2-VL image processor). */
export class QwenImageProcessor implements ImageProcessor {
  readonly #settings: z.infer<typeof PreprocessorFile>;
  readonly #bounds: { readonly minPixels: number; readonly maxPixels: number };
  readonly #passOrder: PassOrder;
  /** What each byte of each channel becomes. */
  readonly #normalised: readonly Float32Array[];

  /**
   * @param file       what `preprocessor_config.json` holds
   * @param passOrder  of the resize, see {@link PassOrder}
   * @throws InvalidError naming the field that is wrong
   */
  constructor(file: unknown, bounds: PixelBounds = {}, passOrder: PassOrder = "pillow-13") {
    this.#passOrder = passOrder;
    const parsed = PreprocessorFile.safeParse(file);
    if (!parsed.success)
      throw new InvalidError(
        "bad_preprocessor",
        `preprocessor_config.json: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`,
      );
    this.#settings = parsed.data;
    const { min_pixels: minPixels, max_pixels: maxPixels, size, image_mean: mean, image_std: deviation } = parsed.data;
    this.#normalised = mean.map((centre, channel) =>
      Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - centre) / (deviation[channel] as number)),
    );
    const factor = this.#factor;
    // Explicit pixel keys win over the older names, whose "edges" are pixel counts too.
    this.#bounds = {
      minPixels: bounds.minPixels ?? minPixels ?? size?.shortest_edge ?? 4 * factor ** 2,
      maxPixels: bounds.maxPixels ?? maxPixels ?? size?.longest_edge ?? 16384 * factor ** 2,
    };
    if (this.#bounds.minPixels > this.#bounds.maxPixels)
      throw new InvalidError(
        "bad_pixel_bounds",
        `image.minPixels ${this.#bounds.minPixels} is above image.maxPixels ${this.#bounds.maxPixels}; set both`,
      );
  }

  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name), name);
  }

  processPixels(image: RgbImage, name: string): ProcessedImage {
    const resized = namedPicture(name, () => this.resizedSize(image));
    const { data } = resizeBicubic(image, resized.width, resized.height, this.#passOrder);
    const { patch_size: patch, merge_size: merge } = this.#settings;
    const grid = { time: 1, height: resized.height / patch, width: resized.width / patch };
    return { patches: this.#cut(data, grid), grid, tokens: (grid.height * grid.width) / merge ** 2, resized };
  }

  resizedSize(size: PixelSize): PixelSize {
    return smartResize(size, this.#factor, this.#bounds);
  }

  tokensOf(size: PixelSize): number {
    const { width, height } = this.resizedSize(size);
    return (width * height) / this.#factor ** 2;
  }

  get #factor(): number {
    return this.#settings.patch_size * this.#settings.merge_size;
  }

  /** Normalises and flattens: rows in merge-block order, each laid out (channel, time, y, x). */
  #cut(data: Uint8Array, grid: { readonly height: number; readonly width: number }): Float32Array {
    const { patch_size: patch, merge_size: merge, temporal_patch_size: time } = this.#settings;
    const rowBytes = grid.width * patch * 3;
    const area = patch * patch;
    const patches = new Float32Array(grid.height * grid.width * 3 * time * area);
    let target = 0;
    for (const { top, left } of inMergeBlockOrder(grid, merge)) {
      const corner = top * patch * rowBytes + left * patch * 3;
      for (let channel = 0; channel < 3; channel++) {
        const table = this.#normalised[channel] as Float32Array;
        const frame = target;
        for (let y = 0; y < patch; y++) {
          let source = corner + y * rowBytes + channel;
          for (let x = 0; x < patch; x++, source += 3) patches[target++] = table[data[source] as number] as number;
        }
        // A picture is a film of the same frame.
        for (let copy = 1; copy < time; copy++, target += area) patches.copyWithin(target, frame, frame + area);
      }
    }
    return patches;
  }
}

/** Cells of a grid, in patches: the cells of one merged token follow each other. */
function* inMergeBlockOrder(
  grid: { readonly height: number; readonly width: number },
  merge: number,
): Generator<{ readonly top: number; readonly left: number }> {
  for (let blockTop = 0; blockTop < grid.height; blockTop += merge)
    for (let blockLeft = 0; blockLeft < grid.width; blockLeft += merge)
      for (let top = blockTop; top < blockTop + merge; top++)
        for (let left = blockLeft; left < blockLeft + merge; left++) yield { top, left };
}
