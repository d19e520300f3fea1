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
 * Decodes a picture to 8-bit RGB: EXIF rotation applied, transparency on white, the first frame of an animation, grey,
 * palette, CMYK and 16-bit pictures converted.
 *
 * Colour profiles are not applied, as the reference's processors do not: sample values reach the model as Pillow reads
 * them (the same bytes for JPEG, PNG, WebP and GIF; CMYK is converted by libvips, which is nearer to what is seen).
 *
 * @param source  a path or the bytes of a file
 * @param name    what messages call the picture
 * @throws InvalidError (`bad_image`) for what is no picture, is cut off, or is missing; (`image_too_large`) above
 *         {@link maxDecodedPixels}
 */
export async function decodeImage(source: string | Uint8Array, name: string): Promise<RgbImage> {
  try {
    const { data, info } = await sharp(source, {
      limitInputPixels: maxDecodedPixels,
      failOn: "truncated",
      ignoreIcc: true,
      pages: 1,
    })
      .rotate()
      .toColourspace("srgb")
      .flatten({ background: "#ffffff" })
      .removeAlpha()
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    return {
      width: info.width,
      height: info.height,
      data: info.channels === 3 ? data : repeatGrey(data, info.channels),
    };
  } catch (error) {
    throw unreadable(name, error);
  }
}

function unreadable(name: string, error: unknown): InvalidError {
  const reason = messageOf(error);
  if (reason.includes("pixel limit"))
    return new InvalidError(
      "image_too_large",
      `picture ${name} has more than ${maxDecodedPixels / 1e6} million pixels; scale it down or leave it out`,
      { cause: error },
    );
  const cut = /premature|truncated|read error|unexpected end/i.test(reason) ? "the file is cut off: " : "";
  return new InvalidError(
    "bad_image",
    `picture ${name} cannot be decoded: ${cut}${reason}; save it again as PNG or JPEG, or leave it out`,
    { cause: error },
  );
}

function repeatGrey(data: Uint8Array, channels: number): Uint8Array {
  const pixels = data.length / channels;
  const rgb = new Uint8Array(pixels * 3);
  for (let index = 0; index < pixels; index++) rgb.fill(data[index * channels] as number, index * 3, index * 3 + 3);
  return rgb;
}
