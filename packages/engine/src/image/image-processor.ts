import type { RgbImage } from "./decode-image.ts";

/** A picture as an image tower takes it. */
export interface ProcessedImage {
  /** `[time·height·width of the grid, values of a patch]`, in the order in which the family's tower takes them. */
  readonly patches: Float32Array;
  /** Patches; `time` counts tiles where a family cuts pictures into tiles. */
  readonly grid: PatchGrid;
  /** Visual tokens: rows of the text that the picture's features take. */
  readonly tokens: number;
  /** Pixels that the model sees; boxes in pixels refer to it. */
  readonly resized: PixelSize;
  /** Columns and rows of tiles, where pictures are cut into tiles. */
  readonly tiling?: { readonly columns: number; readonly rows: number };
}

export interface PatchGrid {
  readonly time: number;
  readonly height: number;
  readonly width: number;
}

export interface PixelSize {
  readonly width: number;
  readonly height: number;
}

/** Bounds on a picture's area in pixels; a run spec may narrow the model's own. */
export interface PixelBounds {
  readonly minPixels?: number | undefined;
  readonly maxPixels?: number | undefined;
}

/** Decodes, resizes, cuts and normalises pictures as the model's `preprocessor_config.json` says. */
export interface ImageProcessor {
  /**
   * @param source  a path or the bytes of a file
   * @param name    what messages call the picture
   * @throws InvalidError for a picture that cannot be decoded, is too large or too thin, naming it
   */
  process(source: string | Uint8Array, name: string): Promise<ProcessedImage>;
  /** As `process`, for a picture that is decoded already. */
  processPixels(image: RgbImage, name: string): ProcessedImage;
  /** Size in pixels to which a picture of the given size is brought. */
  resizedSize(size: PixelSize): PixelSize;
  /** Visual tokens of a picture of the given size. */
  tokensOf(size: PixelSize): number;
  /** For pictures that share a conversation with others, where the family sees those differently; itself unless given. */
  readonly ofSeveral?: ImageProcessor;
}
