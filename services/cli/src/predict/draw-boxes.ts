import { InvalidError } from "@drydock/kit";
import type { Grounding } from "@drydock/spec";
import sharp from "sharp";

const colours = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#0b8793", "#b8860b", "#808000"];
/** Small pictures are enlarged to about this many pixels, so that labels can be read. */
const readableSide = 480;

/**
 * Draws boxes with their phrases on a picture and writes it as PNG. One colour for each phrase.
 *
 * @param groundings boxes as fractions 0..1 of the picture
 * @throws InvalidError `unreadable_image` when the picture cannot be read, or the drawing not written
 */
export async function drawBoxes(imagePath: string, groundings: readonly Grounding[], outPath: string): Promise<void> {
  try {
    const upright = await sharp(imagePath).autoOrient().toBuffer({ resolveWithObject: true });
    const scale = Math.max(1, Math.round(readableSide / Math.max(upright.info.width, upright.info.height)));
    const [width, height] = [upright.info.width * scale, upright.info.height * scale];
    await sharp(upright.data)
      .resize(width, height, { kernel: scale > 1 ? "nearest" : "cubic" })
      .composite([{ input: Buffer.from(overlay(width, height, groundings)) }])
      .png()
      .toFile(outPath);
  } catch (cause) {
    throw new InvalidError(
      "unreadable_image",
      `cannot draw boxes on ${imagePath} into ${outPath}: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  }
}

/** The boxes and their labels as an SVG document of the picture's size. */
export function overlay(width: number, height: number, groundings: readonly Grounding[]): string {
  const fontSize = Math.max(12, Math.round(height / 28));
  const stroke = Math.max(2, Math.round(Math.max(width, height) / 240));
  const shapes = groundings.flatMap(({ phrase, boxes }, index) => {
    const colour = colours[index % colours.length]!;
    return boxes.map(([left, top, right, bottom]) => {
      const [x, y, w, h] = [left * width, top * height, (right - left) * width, (bottom - top) * height];
      const labelWidth = phrase.length * fontSize * 0.62 + 6;
      const labelY = y >= fontSize + 4 ? y - fontSize - 4 : y;
      return (
        `<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="none" stroke="${colour}" stroke-width="${stroke}"/>` +
        `<rect x="${x}" y="${labelY}" width="${labelWidth}" height="${fontSize + 4}" fill="${colour}"/>` +
        `<text x="${x + 3}" y="${labelY + fontSize}" font-family="sans-serif" font-size="${fontSize}" fill="#fff">${escapeXml(phrase)}</text>`
      );
    });
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${shapes.join("")}</svg>`;
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
