import sharp from "sharp";
import { defaultImageLimits } from "../validation/inspect-image.ts";

/**
 * A picture as a small JPEG in a data URL, turned by its EXIF orientation, at most `maxSidePixels` wide and high; null when the
 * bytes are no picture that can be shown.
 */
export async function thumbnail(bytes: Uint8Array, maxSidePixels: number): Promise<string | null> {
  try {
    const small = await sharp(bytes, { limitInputPixels: defaultImageLimits.maxPixels, failOn: "truncated" })
      .rotate()
      .resize({ width: maxSidePixels, height: maxSidePixels, fit: "inside", withoutEnlargement: true })
      .flatten({ background: "#ffffff" })
      .jpeg({ quality: 80 })
      .toBuffer();
    return `data:image/jpeg;base64,${small.toString("base64")}`;
  } catch {
    // A report with one picture missing is better than none; the page says that it is missing.
    return null;
  }
}
