import type { Box, Grounding } from "@drydock/spec";
import { escapeHtml } from "./escape-html.ts";

/** Colours of boxes in reports: what is right, and what a model answered. */
export const boxColours = { expected: "#12a150", answered: "#e0245e" } as const;

export interface BoxDrawing {
  /** Of the drawing, in its own unit. */
  readonly width: number;
  readonly height: number;
  readonly colour: string;
  /** SVG dash pattern; empty for a solid line. */
  readonly dashes: string;
  /** Writes each phrase at its box: on it, or under it so that two drawings over each other can be read. */
  readonly labels?: "above" | "below";
}

/** Boxes of groundings as SVG elements over a picture that fills the drawing. */
export function drawBoxes(groundings: readonly Grounding[], drawing: BoxDrawing): string {
  return groundings
    .flatMap(({ phrase, boxes }) =>
      boxes.map((box) => rectangle(box, drawing) + (drawing.labels ? label(phrase, box, drawing) : "")),
    )
    .join("");
}

function rectangle([left, top, right, bottom]: Box, { width, height, colour, dashes }: BoxDrawing): string {
  return `<rect x="${left * width}" y="${top * height}" width="${Math.max(0, right - left) * width}" height="${Math.max(0, bottom - top) * height}" fill="none" stroke="${colour}" stroke-width="2.5" vector-effect="non-scaling-stroke" stroke-dasharray="${dashes}"/>`;
}

function label(phrase: string, [left, top, , bottom]: Box, { width, height, colour, labels }: BoxDrawing): string {
  const size = width / 26;
  const y =
    labels === "below" ? Math.min(height - size / 4, bottom * height + size) : Math.max(size, top * height - size / 4);
  return `<text x="${left * width}" y="${y}" font-size="${size}" fill="${colour}" stroke="#fff" stroke-width="${size / 6}" paint-order="stroke">${escapeHtml(phrase.slice(0, 40))}</text>`;
}
