import { refuseThin } from "@drydock/spec";
import { z } from "zod";
import { decodeImage, type RgbImage } from "./decode-image.ts";
import type { ImageProcessor, PixelSize, ProcessedImage } from "./image-processor.ts";
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

const Square = z.union([
  z.number().transform((side) => ({ height: side, width: side })),
  z.object({ height: z.number(), width: z.number() }),
]);

const clipFile = (usual: keyof typeof Normalisation) =>
  z.looseObject({
    ...fixedSteps,
    ...normalisationKeys(Normalisation[usual]),
    size: z.union([
      z.number().transform((side) => ({ shortest_edge: side })),
      z.object({ shortest_edge: z.number() }),
      Square,
    ]),
    do_center_crop: z.boolean().optional(),
    crop_size: Square.optional(),
    do_pad: z.boolean().default(false),
  });

/** What a model says of the one square that its tower takes. */
export interface SquareSettings {
  readonly patchSize: number;
  /** Patches a side. */
  readonly side: number;
  /** Visual tokens of a picture. */
  readonly tokens: number;
  /** Pixels a side, where patches leave some over at the right and the bottom; what the patches take unless given. */
  readonly imageSize?: number;
  /** Mean and deviation of pixels where the file says nothing; CLIP's unless given. */
  readonly usual?: keyof typeof Normalisation;
}

/**
 * CLIP's and LLaVA's pictures: the shorter side is brought to the tower's, the longer one in proportion, and the middle is cut
 * out; with `do_pad` the picture is first made square with the mean colour instead, so that nothing is cut off. With a `size` of
 * two sides (SigLIP) it is brought to that, whatever its shape.
 *
 * Source: `image_processing_pil_clip.py`, `image_processing_pil_llava.py`, `image_processing_pil_siglip.py` of huggingface/transformers 5.23.
 */
export class ClipImageProcessor implements ImageProcessor {
  readonly #file: z.output<ReturnType<typeof clipFile>>;
  readonly #settings: SquareSettings;
  readonly #patches: TilePatches;

  /**
   * @param file  what `preprocessor_config.json` holds
   * @throws InvalidError naming the field that is wrong, or when what it makes is not what the tower takes
   */
  constructor(file: unknown, settings: SquareSettings) {
    this.#file = readPreprocessorFile(clipFile(settings.usual ?? "clip"), file);
    this.#settings = settings;
    this.#patches = new TilePatches({
      ...settings,
      places: Array.from({ length: settings.side ** 2 }, (_, place) => place),
      mean: this.#file.image_mean,
      deviation: this.#file.image_std,
    });
    const imageSize = this.#imageSize;
    const { size, crop_size: crop } = this.#file;
    // A picture that is brought to one size whatever its shape leaves nothing to cut off.
    const crops = this.#file.do_center_crop ?? !("height" in size);
    const made = crops ? crop : "height" in size ? size : undefined;
    if (made?.height !== imageSize || made.width !== imageSize)
      throw badPreprocessor(
        `${crops ? "crop_size" : "size"} is ${made ? `${made.height} by ${made.width}` : "missing"}, but config.json says that the model's tower takes ${imageSize} by ${imageSize}`,
      );
    const least = "height" in size ? Math.min(size.height, size.width) : size.shortest_edge;
    if (least < imageSize) throw badPreprocessor(`size ${least} is less than crop_size ${imageSize}`);
  }

  async process(source: string | Uint8Array, name: string): Promise<ProcessedImage> {
    return this.processPixels(await decodeImage(source, name), name);
  }

  processPixels(image: RgbImage, name: string): ProcessedImage {
    namedPicture(name, () => refuseThin(image));
    const imageSize = this.#imageSize;
    const square = this.#file.do_pad ? padded(image, this.#file.image_mean) : image;
    const { width, height } = this.#scaled(square);
    const scaled = resizeBicubic(square, width, height);
    const corner = { top: Math.floor((height - imageSize) / 2), left: Math.floor((width - imageSize) / 2) };
    const patches = new Float32Array(this.#patches.tileValues);
    this.#patches.write(scaled, corner, patches, 0);
    const { side, tokens } = this.#settings;
    return { patches, grid: { time: 1, height: side, width: side }, tokens, resized: this.resizedSize() };
  }

  resizedSize(): PixelSize {
    const imageSize = this.#imageSize;
    return { width: imageSize, height: imageSize };
  }

  tokensOf(): number {
    return this.#settings.tokens;
  }

  /** Pixels a side. */
  get #imageSize(): number {
    return this.#settings.imageSize ?? this.#patches.tileSize;
  }

  #scaled({ width, height }: PixelSize): PixelSize {
    const { size } = this.#file;
    if ("height" in size) return size;
    const short = size.shortest_edge;
    const long = Math.trunc((short * Math.max(width, height)) / Math.min(width, height));
    return width <= height ? { width: short, height: long } : { width: long, height: short };
  }
}

/** The picture in the middle of a square of the mean colour, rounded down as the reference does. */
function padded(image: RgbImage, mean: readonly [number, number, number]): RgbImage {
  const { width, height, data } = image;
  if (width === height) return image;
  const side = Math.max(width, height);
  const colour = mean.map((share) => Math.trunc(share * 255));
  const square = new Uint8Array(side * side * 3);
  for (let index = 0; index < square.length; index++) square[index] = colour[index % 3] as number;
  const top = Math.floor((side - height) / 2);
  const left = Math.floor((side - width) / 2);
  for (let row = 0; row < height; row++)
    square.set(data.subarray(row * width * 3, (row + 1) * width * 3), ((top + row) * side + left) * 3);
  return { width: side, height: side, data: square };
}
