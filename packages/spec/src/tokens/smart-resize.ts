import { InvalidError } from "@drydock/kit";

export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** Longest side over shortest side that the Qwen family accepts. */
export const maxAspectRatio = 200;

/**
 * The size, in pixels, to which the Qwen family resizes a picture: multiples of `factor`, the area within both bounds.
 *
 * Rounding is half to even, as Python rounds. Operation order is kept, since `floor(height / beta / factor)` lands just
 * below an integer for some sizes.
 *
 * @param factor  patch side × merge side in pixels (28 for Qwen2.5-VL, 32 for Qwen3-VL and Qwen3.5)
 * @param bounds  smallest and largest area in pixels
 * @throws InvalidError `picture_too_thin` when one side is more than 200 times the other
 *
 * Source: `smart_resize` of transformers 5.23.0 (`image_processing_qwen2_vl.py`): no lower bound of one factor in the
 * rounding step. qwen-vl-utils has one, which differs only for pictures with a side of at most half a factor.
 */
export function smartResize(
  picture: PictureSize,
  factor: number,
  bounds: { readonly minPixels: number; readonly maxPixels: number },
): PictureSize {
  refuseThin(picture);
  const { width, height } = picture;
  const rounded = {
    width: roundHalfToEven(width / factor) * factor,
    height: roundHalfToEven(height / factor) * factor,
  };
  const area = rounded.width * rounded.height;
  if (area > bounds.maxPixels) {
    const beta = Math.sqrt((height * width) / bounds.maxPixels);
    return {
      width: Math.max(factor, Math.floor(width / beta / factor) * factor),
      height: Math.max(factor, Math.floor(height / beta / factor) * factor),
    };
  }
  if (area < bounds.minPixels) {
    const beta = Math.sqrt(bounds.minPixels / (height * width));
    return { width: Math.ceil((width * beta) / factor) * factor, height: Math.ceil((height * beta) / factor) * factor };
  }
  return rounded;
}

/** @throws InvalidError `picture_too_thin` when one side is more than 200 times the other */
export function refuseThin({ width, height }: PictureSize): void {
  const ratio = Math.max(width, height) / Math.min(width, height);
  if (!(ratio <= maxAspectRatio))
    throw new InvalidError(
      "picture_too_thin",
      `a picture of ${width}×${height} pixels has a side ratio of ${ratio.toFixed(1)}; at most ${maxAspectRatio} is accepted. Crop it or leave it out.`,
    );
}

/** Rounds to the nearest integer, halves to the even one, as Python's `round` does. */
export function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const isHalf = value - floor === 0.5;
  return isHalf ? floor + (floor % 2) : Math.round(value);
}
