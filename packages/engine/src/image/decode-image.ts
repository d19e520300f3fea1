import sharp from "sharp";
import { InvalidError, messageOf } from "@drydock/kit";

/** Pixels of a picture, RGB bytes row by row. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  /** `[height, width, 3]`. */
  readonly data: Uint8Array;
}

/** Larger pictures are refused before they are decoded: 100 megapixels. */
export const maxDecodedPixels = 100_000_000;

/**
 * Decodes a picture to RGB: EXIF rotation applied, transparency on white, the first frame of an animation, any colour
 * space and depth to 8-bit sRGB.
 *
 * @param source  a path or the bytes of a file
 * @param name    what messages call the picture
 * @throws InvalidError (`bad_image`) for what is no picture, is cut, or is larger than {@link maxDecodedPixels}
 */
export async function decodeImage(source: string | Uint8Array, name: string): Promise<RgbImage> {
  try {
    const { data, info } = await sharp(source, { limitInputPixels: maxDecodedPixels, failOn: "truncated", pages: 1 })
      .rotate()
      .toColourspace("srgb")
      .flatten({ background: "#ffffff" })
      .removeAlpha()
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data: info.channels === 3 ? data : repeatGrey(data, info.channels) };
  } catch (error) {
    throw new InvalidError("bad_image", `picture ${name} cannot be decoded: ${messageOf(error)}; save it again as PNG or JPEG, or leave it out`, { cause: error });
  }
}

function repeatGrey(data: Uint8Array, channels: number): Uint8Array {
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let index = 0; index < pixels; index++) rgb.fill(data[index * channels] as number, index * 3, index * 3 + 3);
  return rgb;
}
