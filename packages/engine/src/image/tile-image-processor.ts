import { maxTilesWithin, refuseThin, tileCount, tileGrid, type TileGrid } from "@drydock/spec";
import { z } from "zod";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import type { ImageProcessor, PixelBounds, PixelSize, ProcessedImage } from "./image-processor.ts";
import { namedPicture } from "./named-picture.ts";
import { resizeBicubic } from "./resize.ts";
import {
  badPreprocessor,
  fixedSteps,
  Normalisation,
  normalisationKeys,
  readPreprocessorFile,
  TilePatches,
} from "./tile-patches.ts";

/** What a model says of its tiles. */
export interface TileSettings {
  readonly patchSize: number;
  /** Patches a side. */
  readonly side: number;
  readonly places: readonly number[];
  readonly tokensPerTile: number;
  /** From config.json, where the preprocessor file does not say it. */
  readonly minTiles: number;
  readonly maxTiles: number;
  readonly hasThumbnail: boolean;
}

const TileFile = z.looseObject({
  ...fixedSteps,
  ...normalisationKeys(Normalisation.imageNet),
  size: z.looseObject({ height: z.number(), width: z.number() }).optional(),
  min_patches: z.int().positive().optional(),
  max_patches: z.int().positive().optional(),
});

const RemoteFile = z.looseObject(normalisationKeys(Normalisation.imageNet));

/** NVILA's tiles are cut before SigLIP's processor sees them, one by one. */
const SiglipFile = z.looseObject({
  ...fixedSteps,
  ...normalisationKeys(Normalisation.half),
  size: z.looseObject({ height: z.number(), width: z.number() }),
});
const files = { "got-ocr2": TileFile, siglip: SiglipFile } as const;

/**
 * InternVL's and NVILA's tiles: of all grids within bounds the one whose shape is nearest the picture's, the picture resized to it
 * whatever its own shape, cut row by row, and a small copy of the whole behind the tiles when there are several.
 *
 * Source: `image_processing_pil_got_ocr2.py` of huggingface/transformers 5.23, with tiling on as `InternVLProcessor` has it;
 * `dynamic_preprocess` of `mm_utils.py`, NVlabs/VILA.
 */
export class TileImageProcessor implements ImageProcessor {
  readonly #settings: TileSettings;
  readonly #bounds: { readonly minTiles: number; readonly maxTiles: number };
  readonly #patches: TilePatches;

  /**
   * @param file    what `preprocessor_config.json` holds: of a `GotOcr2ImageProcessor`, of the form with code of its own,
   *                where it says how pixels are normalised alone, or of a `SiglipImageProcessor`, whose tiles NVILA rounds to
   *                half precision
   * @param bounds  `maxPixels` limits the number of tiles; `minPixels` has no meaning here
   * @throws InvalidError naming the field that is wrong
   */
  constructor(file: unknown, settings: TileSettings, bounds: PixelBounds, form: "got-ocr2" | "remote" | "siglip") {
    const own: z.output<typeof TileFile> | null =
      form === "remote" ? null : readPreprocessorFile<z.ZodType<z.output<typeof TileFile>>>(files[form], file);
    const { image_mean: mean, image_std: deviation } = own ?? readPreprocessorFile(RemoteFile, file);
    this.#settings = settings;
    this.#patches = new TilePatches({ ...settings, mean, deviation, isHalfPrecision: form === "siglip" });
    const { tileSize } = this.#patches;
    if (own?.size && (own.size.height !== tileSize || own.size.width !== tileSize))
      throw badPreprocessor(
        `size is ${own.size.height} by ${own.size.width}, but config.json says that the model's tower takes ${tileSize} by ${tileSize}`,
      );
    const maxTiles = maxTilesWithin(own?.max_patches ?? settings.maxTiles, tileSize, bounds.maxPixels);
    this.#bounds = { minTiles: Math.min(own?.min_patches ?? settings.minTiles, maxTiles), maxTiles };
  }

  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name), name);
  }

  processPixels(image: RgbImage, name: string): ProcessedImage {
    namedPicture(name, () => refuseThin(image));
    const { tileSize, tileValues } = this.#patches;
    const { side, tokensPerTile } = this.#settings;
    const tiling = this.#grid(image);
    const tiles = this.#tiles(tiling);
    const resized = { width: tiling.columns * tileSize, height: tiling.rows * tileSize };
    const whole = resizeBicubic(image, resized.width, resized.height);
    const patches = new Float32Array(tiles * tileValues);
    let target = 0;
    for (let top = 0; top < resized.height; top += tileSize)
      for (let left = 0; left < resized.width; left += tileSize, target += tileValues)
        this.#patches.write(whole, { top, left }, patches, target);
    if (tiles > tiling.columns * tiling.rows)
      this.#patches.write(resizeBicubic(image, tileSize, tileSize), { top: 0, left: 0 }, patches, target);
    return {
      patches,
      grid: { time: tiles, height: side, width: side },
      tokens: tiles * tokensPerTile,
      resized,
      tiling,
    };
  }

  resizedSize(size: PixelSize): PixelSize {
    const { columns, rows } = this.#grid(size);
    return { width: columns * this.#patches.tileSize, height: rows * this.#patches.tileSize };
  }

  tokensOf(size: PixelSize): number {
    return this.#tiles(this.#grid(size)) * this.#settings.tokensPerTile;
  }

  #grid(size: PixelSize): TileGrid {
    return tileGrid(size, this.#patches.tileSize, this.#bounds.minTiles, this.#bounds.maxTiles);
  }

  #tiles(grid: TileGrid): number {
    return this.#settings.hasThumbnail ? tileCount(grid) : grid.columns * grid.rows;
  }
}
