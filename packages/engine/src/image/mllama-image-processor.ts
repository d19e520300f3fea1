import { refuseThin } from "@drydock/spec";
import { z } from "zod";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import type { ImageProcessor, PixelSize, ProcessedImage } from "./image-processor.ts";
import { namedPicture } from "./named-picture.ts";
import { resizeBicubic, resizeBilinear } from "./resize.ts";
import {
  badPreprocessor,
  fixedSteps,
  Normalisation,
  normalisationKeys,
  readPreprocessorFile,
  TilePatches,
} from "./tile-patches.ts";

const bilinear = 2;
const bicubic = 3;

const MllamaFile = z.looseObject({
  ...fixedSteps,
  ...normalisationKeys(Normalisation.half),
  resample: z
    .union([z.literal(bilinear), z.literal(bicubic)], `must be ${bilinear} (bilinear) or ${bicubic} (bicubic)`)
    .default(bilinear),
  do_pad: z.literal(true, "pictures are always filled up to whole tiles").default(true),
  max_image_tiles: z.number().default(4),
  size: z.looseObject({ height: z.number(), width: z.number() }),
});

/** What a model says of the tiles that its tower takes. */
export interface MllamaTiles {
  readonly patchSize: number;
  /** Patches a side of a tile. */
  readonly side: number;
  /** Tiles of a picture at most. */
  readonly tiles: number;
  /** `[rows, columns]` of tiles that pictures may be cut into. */
  readonly tilings: readonly (readonly [number, number])[];
}

interface Canvas {
  readonly rows: number;
  readonly columns: number;
  /** Pixels of the picture on it, which begins top left; the rest is black. */
  readonly resized: PixelSize;
}

/**
 * Mllama's pictures: the layout of tiles is chosen that needs the least enlarging, or where all shrink it the least shrinking;
 * the picture is brought into it in proportion and filled up with black.
 *
 * Source: `image_processing_pil_mllama.py` of huggingface/transformers 5.23.
 */
export class MllamaImageProcessor implements ImageProcessor {
  readonly #tiles: MllamaTiles;
  readonly #patches: TilePatches;
  readonly #resize: typeof resizeBilinear;

  /**
   * @param file  what `preprocessor_config.json` holds
   * @throws InvalidError naming the field that is wrong, or when what it makes is not what the tower takes
   */
  constructor(file: unknown, tiles: MllamaTiles) {
    const read = readPreprocessorFile(MllamaFile, file);
    this.#tiles = tiles;
    this.#patches = new TilePatches({
      ...tiles,
      places: Array.from({ length: tiles.side ** 2 }, (_, place) => place),
      mean: read.image_mean,
      deviation: read.image_std,
    });
    this.#resize = read.resample === bilinear ? resizeBilinear : resizeBicubic;
    const { tileSize } = this.#patches;
    if (read.size.height !== tileSize || read.size.width !== tileSize)
      throw badPreprocessor(
        `size is ${read.size.height} by ${read.size.width}, but config.json says that the model's tower takes tiles of ${tileSize} by ${tileSize}`,
      );
    if (read.max_image_tiles !== tiles.tiles)
      throw badPreprocessor(
        `max_image_tiles is ${read.max_image_tiles}, but config.json says that the model's tower takes ${tiles.tiles}`,
      );
  }

  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name), name);
  }

  processPixels(image: RgbImage, name: string): ProcessedImage {
    namedPicture(name, () => refuseThin(image));
    const { rows, columns, resized } = this.#canvas(image);
    const { tileSize, tileValues } = this.#patches;
    const canvas = onBlack(this.#resize(image, resized.width, resized.height), {
      width: columns * tileSize,
      height: rows * tileSize,
    });
    const patches = new Float32Array(rows * columns * tileValues);
    for (let tile = 0; tile < rows * columns; tile++) {
      const corner = { top: Math.floor(tile / columns) * tileSize, left: (tile % columns) * tileSize };
      this.#patches.write(canvas, corner, patches, tile * tileValues);
    }
    const { side } = this.#tiles;
    return {
      patches,
      grid: { time: rows * columns, height: side, width: side },
      tokens: 1,
      resized,
      tiling: { columns, rows },
    };
  }

  resizedSize(size: PixelSize): PixelSize {
    return this.#canvas(size).resized;
  }

  tokensOf(): number {
    return 1;
  }

  #canvas(size: PixelSize): Canvas {
    const { tileSize } = this.#patches;
    const [rows, columns] = bestTiling(size, this.#tiles.tilings, tileSize);
    return { rows, columns, resized: fitted(size, columns * tileSize, rows * tileSize, tileSize) };
  }
}

/** The least scale of at least 1, else the largest; of equal ones that of the smallest area, of these the first. */
function bestTiling(
  { width, height }: PixelSize,
  tilings: MllamaTiles["tilings"],
  tileSize: number,
): readonly [number, number] {
  const scaled = tilings.map((tiling) => ({
    tiling,
    scale: Math.min((tiling[0] * tileSize) / height, (tiling[1] * tileSize) / width),
    area: tiling[0] * tiling[1],
  }));
  const enlarging = scaled.filter(({ scale }) => scale >= 1);
  const [best] =
    enlarging.length > 0
      ? enlarging.toSorted((a, b) => a.scale - b.scale || a.area - b.area)
      : scaled.toSorted((a, b) => b.scale - a.scale || a.area - b.area);
  return best?.tiling ?? [1, 1];
}

/** The picture's size on a canvas, in proportion: at least a tile where it may grow, at most the canvas. */
function fitted({ width, height }: PixelSize, canvasWidth: number, canvasHeight: number, tileSize: number): PixelSize {
  const targetWidth = Math.min(Math.max(width, tileSize), canvasWidth);
  const targetHeight = Math.min(Math.max(height, tileSize), canvasHeight);
  const across = targetWidth / width;
  const down = targetHeight / height;
  return across < down
    ? { width: targetWidth, height: Math.min(Math.max(1, Math.floor(height * across)), targetHeight) }
    : { width: Math.min(Math.max(1, Math.floor(width * down)), targetWidth), height: targetHeight };
}

/** The picture top left on a black ground. */
function onBlack(image: RgbImage, { width, height }: PixelSize): RgbImage {
  if (image.width === width && image.height === height) return image;
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < image.height; row++)
    data.set(image.data.subarray(row * image.width * 3, (row + 1) * image.width * 3), row * width * 3);
  return { width, height, data };
}
