import {
  anyResolutionTiling,
  anyResolutionTokens,
  refuseThin,
  resolutionsWithin,
  shownPatches,
  type Resolution,
  type TileGrid,
} from "@drydock/spec";
import { ClipImageProcessor, type SquareSettings } from "./clip-image-processor.ts";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import type { ImageProcessor, PixelBounds, PixelSize, ProcessedImage } from "./image-processor.ts";
import { namedPicture } from "./named-picture.ts";
import { resizeBicubic } from "./resize.ts";

/** What a model says of its tiles and the resolutions that they make. */
export interface AnyResolutionSettings extends SquareSettings {
  readonly resolutions: readonly Resolution[];
}

/**
 * LLaVA-NeXT's pictures: a small copy of the whole, whatever its shape, and the picture in proportion in the middle of the black
 * resolution that fits it best, cut into tiles.
 *
 * Source: `image_processing_pil_llava_next.py` of huggingface/transformers 5.23.
 */
export class AnyResolutionImageProcessor implements ImageProcessor {
  readonly #settings: AnyResolutionSettings;
  readonly #resolutions: readonly Resolution[];
  readonly #squares: ClipImageProcessor;

  /**
   * @param file    what `preprocessor_config.json` holds
   * @param bounds  `maxPixels` leaves out larger resolutions; `minPixels` has no meaning here
   * @throws InvalidError naming the field that is wrong, or when what it makes is not what the tower takes
   */
  constructor(file: unknown, settings: AnyResolutionSettings, bounds: PixelBounds) {
    this.#settings = settings;
    this.#resolutions = resolutionsWithin(settings.resolutions, bounds.maxPixels);
    // `do_pad` means here that pictures of a batch get the same number of tiles, which ours do not need.
    this.#squares = new ClipImageProcessor(typeof file === "object" ? { ...file, do_pad: false } : file, settings);
  }

  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name), name);
  }

  processPixels(image: RgbImage, name: string): ProcessedImage {
    namedPicture(name, () => refuseThin(image));
    const { side } = this.#settings;
    const tiling = this.#tiling(image);
    const resized = this.resizedSize(image);
    const whole = padded(fitted(image, resized), resized);
    const squares = [resizeBicubic(image, this.#tileSize, this.#tileSize)];
    for (let top = 0; top < resized.height; top += this.#tileSize)
      for (let left = 0; left < resized.width; left += this.#tileSize)
        squares.push(cutOut(whole, { top, left }, this.#tileSize));
    const parts = squares.map((square) => this.#squares.processPixels(square, name).patches);
    const patches = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
    parts.reduce((target, part) => (patches.set(part, target), target + part.length), 0);
    const grid = { time: squares.length, height: side, width: side };
    return { patches, grid, tokens: this.tokensOf(image), resized, tiling };
  }

  resizedSize(size: PixelSize): PixelSize {
    const { columns, rows } = this.#tiling(size);
    return { width: columns * this.#tileSize, height: rows * this.#tileSize };
  }

  tokensOf(size: PixelSize): number {
    const { side } = this.#settings;
    return anyResolutionTokens(shownPatches(size, this.#tiling(size), side), side);
  }

  get #tileSize(): number {
    return this.#settings.side * this.#settings.patchSize;
  }

  #tiling(size: PixelSize): TileGrid {
    return anyResolutionTiling(size, this.#tileSize, this.#resolutions);
  }
}

/** In proportion, as large as fits. Source: `get_patch_output_size` of huggingface/transformers 5.23. */
function fitted(image: RgbImage, { width, height }: PixelSize): RgbImage {
  const across = width / image.width;
  const down = height / image.height;
  return across < down
    ? resizeBicubic(image, width, Math.min(Math.ceil(image.height * across), height))
    : resizeBicubic(image, Math.min(Math.ceil(image.width * down), width), height);
}

/** In the middle of black; where the rest is odd, the larger half lies at the right and below. */
function padded(image: RgbImage, { width, height }: PixelSize): RgbImage {
  const data = new Uint8Array(width * height * 3);
  const top = Math.floor((height - image.height) / 2);
  const left = Math.floor((width - image.width) / 2);
  for (let row = 0; row < image.height; row++)
    data.set(image.data.subarray(row * image.width * 3, (row + 1) * image.width * 3), ((top + row) * width + left) * 3);
  return { width, height, data };
}

function cutOut(
  image: RgbImage,
  { top, left }: { readonly top: number; readonly left: number },
  side: number,
): RgbImage {
  const data = new Uint8Array(side * side * 3);
  for (let row = 0; row < side; row++) {
    const start = ((top + row) * image.width + left) * 3;
    data.set(image.data.subarray(start, start + side * 3), row * side * 3);
  }
  return { width: side, height: side, data };
}
