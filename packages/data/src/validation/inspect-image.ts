import sharp, { type Metadata } from "sharp";
import { messageOf, sha256 } from "@drydock/kit";
import { maxAspectRatio } from "@drydock/spec";

export interface ImageLimits {
  readonly maxPixels: number;
  readonly maxBytes: number;
}

/** 100 megapixels and 100 MiB: more than any camera's still, far below what a decoder falls over. */
export const defaultImageLimits: ImageLimits = { maxPixels: 100_000_000, maxBytes: 100 * 2 ** 20 };

/** A picture that decodes. */
export interface InspectedImage {
  readonly isUsable: true;
  readonly sha256: string;
  /** File extension of its true format, whatever its name says. */
  readonly extension: string;
  /** Pixels, after EXIF rotation. */
  readonly width: number;
  readonly height: number;
  readonly sizeBytes: number;
  /** EXIF orientation 1..8; from 5 on, width and height are swapped against the stored ones. */
  readonly orientation: number;
  /** Frames or pages; only the first is used. */
  readonly pages: number;
}

export interface ImageProblem {
  readonly isUsable: false;
  readonly code: string;
  /** Half a sentence that follows the picture's name. */
  readonly message: string;
}

const extensions: Readonly<Record<string, string>> = {
  jpeg: "jpg",
  png: "png",
  webp: "webp",
  gif: "gif",
  tiff: "tif",
  heif: "avif",
  avif: "avif",
};

/**
 * Opens a picture as training will: reads the header, checks the limits, then decodes every pixel, so that a file cut off
 * in the middle is found now and not on the GPU. The header is read before anything is allocated for pixels.
 */
export async function inspectImage(
  bytes: Uint8Array,
  limits: ImageLimits = defaultImageLimits,
): Promise<InspectedImage | ImageProblem> {
  if (bytes.byteLength === 0) return problem("image_empty", "is an empty file: replace it or remove the row");
  if (bytes.byteLength > limits.maxBytes)
    return problem(
      "image_too_large",
      `has ${Math.round(bytes.byteLength / 2 ** 20)} MiB; at most ${Math.round(limits.maxBytes / 2 ** 20)} MiB are accepted. Save it smaller`,
    );
  let metadata: Metadata;
  try {
    metadata = await sharp(bytes, { limitInputPixels: false }).metadata();
  } catch (error) {
    return unreadable(bytes, error);
  }
  const extension = extensions[metadata.format];
  if (extension === undefined)
    return problem("image_format_unsupported", `is ${metadata.format}; use JPEG, PNG, WebP, GIF, TIFF or AVIF`);
  const refused = checkSize(metadata.width, metadata.height, bytes.byteLength, limits);
  if (refused) return refused;
  try {
    await sharp(bytes, { limitInputPixels: limits.maxPixels, failOn: "truncated" })
      .resize(8, 8, { fit: "fill", kernel: "nearest" })
      .raw()
      .toBuffer();
  } catch (error) {
    return problem("image_truncated", `is cut off or damaged (${shorten(error)}): export or copy it again`);
  }
  const orientation = metadata.orientation ?? 1;
  const isTurned = orientation >= 5;
  return {
    isUsable: true,
    sha256: sha256(bytes),
    extension,
    width: isTurned ? metadata.height : metadata.width,
    height: isTurned ? metadata.width : metadata.height,
    sizeBytes: bytes.byteLength,
    orientation,
    pages: metadata.pages ?? 1,
  };
}

function checkSize(width: number, height: number, sizeBytes: number, limits: ImageLimits): ImageProblem | null {
  const megapixels = (width * height) / 1e6;
  if (width * height > limits.maxPixels) {
    const most = `at most ${limits.maxPixels / 1e6} megapixels are accepted`;
    // Real pictures of this size have at least one byte per hundred pixels.
    return sizeBytes * 100 < width * height
      ? problem(
          "image_bomb",
          `declares ${width}×${height} pixels (${Math.round(megapixels)} megapixels) in ${sizeBytes} bytes, as a decompression bomb does; ${most}. Remove it, or scale it down if it is real`,
        )
      : problem(
          "image_too_large",
          `has ${width}×${height} pixels (${Math.round(megapixels)} megapixels); ${most}. Scale it down`,
        );
  }
  const ratio = Math.max(width, height) / Math.min(width, height);
  if (ratio > maxAspectRatio)
    return problem(
      "image_too_thin",
      `has ${width}×${height} pixels, a side ratio of ${ratio.toFixed(0)}; at most ${maxAspectRatio} is accepted. Crop it`,
    );
  return null;
}

function unreadable(bytes: Uint8Array, error: unknown): ImageProblem {
  const start = Buffer.from(bytes.subarray(0, 12));
  if (start.subarray(0, 2).toString("latin1") === "BM")
    return problem("image_format_unsupported", "is a BMP file, which is not supported: save it as PNG");
  if (start.toString("latin1").startsWith("version https"))
    return problem("image_is_pointer", "is a Git LFS pointer and not the picture: run git lfs pull, then upload again");
  const isKnown =
    start[0] === 0xff ||
    start.subarray(1, 4).toString("latin1") === "PNG" ||
    start.subarray(0, 4).toString("latin1") === "RIFF" ||
    start.subarray(0, 3).toString("latin1") === "GIF";
  return isKnown
    ? problem("image_truncated", `is cut off or damaged (${shorten(error)}): export or copy it again`)
    : problem("image_unreadable", "is not a picture that can be read: use JPEG, PNG, WebP, GIF, TIFF or AVIF");
}

function shorten(error: unknown): string {
  return (messageOf(error).split("\n")[0] ?? "").slice(0, 120);
}

function problem(code: string, message: string): ImageProblem {
  return { isUsable: false, code, message };
}
