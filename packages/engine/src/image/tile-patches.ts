import { InvalidError } from "@drydock/kit";
import { z } from "zod";
import type { RgbImage } from "./decode-image.ts";

const Triple = z.tuple([z.number(), z.number(), z.number()]);
const bicubic = 3;

/** What Drydock does to every picture, which files may say but not switch off. */
export const fixedSteps = {
  do_resize: z.literal(true).default(true),
  do_rescale: z.literal(true).default(true),
  do_normalize: z.literal(true).default(true),
  rescale_factor: z
    .number()
    .default(1 / 255)
    .refine((factor) => Math.abs(factor * 255 - 1) < 1e-6, "must be 1/255"),
  resample: z.literal(bicubic, `must be ${bicubic} (bicubic)`).default(bicubic),
};

export const Normalisation = {
  imageNet: { mean: [0.485, 0.456, 0.406], deviation: [0.229, 0.224, 0.225] },
  /** From −1 to 1. */
  half: { mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5] },
  clip: { mean: [0.48145466, 0.4578275, 0.40821073], deviation: [0.26862954, 0.26130258, 0.27577711] },
} as const;

/** The keys `image_mean` and `image_std`. */
export function normalisationKeys(usual: (typeof Normalisation)[keyof typeof Normalisation]) {
  return { image_mean: Triple.default([...usual.mean]), image_std: Triple.default([...usual.deviation]) };
}

/** @throws InvalidError (`bad_preprocessor`) naming the field that is wrong */
export function readPreprocessorFile<Schema extends z.ZodType>(schema: Schema, file: unknown): z.output<Schema> {
  const parsed = schema.safeParse(file);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw badPreprocessor(`${issue?.path.join(".") || "file"}: ${issue?.message ?? "not understood"}`);
}

export function badPreprocessor(problem: string): InvalidError {
  return new InvalidError("bad_preprocessor", `preprocessor_config.json: ${problem}`);
}

export interface TilePatchSettings {
  readonly patchSize: number;
  /** Patches a side of a tile. */
  readonly side: number;
  /** Place in the tile, row by row from top left, of each patch in the order in which they are written. */
  readonly places: readonly number[];
  readonly mean: readonly [number, number, number];
  readonly deviation: readonly [number, number, number];
  /** Whether values are rounded to float16; false unless given. */
  readonly isHalfPrecision?: boolean;
}

/** Of the engine's mathematics; the compiler's library does not know it yet. */
const { f16round } = Math as unknown as { readonly f16round: (value: number) => number };

/** Cuts square tiles into normalised patches, each laid out (channel, y, x). */
export class TilePatches {
  readonly #settings: TilePatchSettings;
  /** What each byte of each channel becomes. */
  readonly #normalised: readonly Float32Array[];

  constructor(settings: TilePatchSettings) {
    this.#settings = settings;
    const rounded = settings.isHalfPrecision === true ? f16round : Math.fround;
    this.#normalised = settings.mean.map((centre, channel) =>
      Float32Array.from({ length: 256 }, (_, byte) =>
        rounded(Math.fround((byte / 255 - centre) / (settings.deviation[channel] as number))),
      ),
    );
  }

  /** Pixels a side of a tile. */
  get tileSize(): number {
    return this.#settings.side * this.#settings.patchSize;
  }

  /** Values of one tile. */
  get tileValues(): number {
    return 3 * this.tileSize ** 2;
  }

  /** Writes the patches of the tile whose top left corner is given, from position `target` on. */
  write(
    image: RgbImage,
    corner: { readonly top: number; readonly left: number },
    into: Float32Array,
    target: number,
  ): void {
    const { patchSize, side, places } = this.#settings;
    let at = target;
    for (const place of places) {
      const top = corner.top + Math.floor(place / side) * patchSize;
      const left = corner.left + (place % side) * patchSize;
      for (let channel = 0; channel < 3; channel++) {
        const table = this.#normalised[channel] as Float32Array;
        for (let y = top; y < top + patchSize; y++) {
          let source = (y * image.width + left) * 3 + channel;
          for (let x = 0; x < patchSize; x++, source += 3) into[at++] = table[image.data[source] as number] as number;
        }
      }
    }
  }
}

/** Places of patches row by row, or cell by cell of `merge`² patches. */
export function placesInCells(side: number, merge: number): number[] {
  const places: number[] = [];
  for (let cellTop = 0; cellTop < side; cellTop += merge)
    for (let cellLeft = 0; cellLeft < side; cellLeft += merge)
      for (let top = cellTop; top < cellTop + merge; top++)
        for (let left = cellLeft; left < cellLeft + merge; left++) places.push(top * side + left);
  return places;
}
