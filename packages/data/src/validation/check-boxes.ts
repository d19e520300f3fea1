import type { Box, Grounding } from "@drydock/spec";
import type { SourceBox, SourceGrounding } from "../importers/source-row.ts";
import type { RowProblem } from "./row-problem.ts";

interface Picture {
  readonly width: number;
  readonly height: number;
}

/** Boxes as fractions of the picture; or the first thing that is wrong with them. At most a pixel (or 0.2 %) over the edge is cut off. */
export function checkGroundings(
  groundings: readonly SourceGrounding[],
  picture: Picture,
): { readonly groundings: Grounding[] } | RowProblem {
  const checked: Grounding[] = [];
  for (const [index, { phrase, boxes }] of groundings.entries()) {
    const path = `groundings.${index}`;
    if (phrase.trim() === "")
      return { code: "empty_phrase", path, message: "a phrase is empty: name what the box shows" };
    const fractions: Box[] = [];
    for (const source of boxes) {
      const result = checkBox(source, picture);
      if ("code" in result) return { ...result, path, message: `box of "${phrase}": ${result.message}` };
      fractions.push(result.box);
    }
    checked.push({ phrase: phrase.trim(), boxes: fractions });
  }
  return { groundings: checked };
}

function checkBox(
  source: SourceBox,
  picture: Picture,
): { readonly box: Box } | { readonly code: string; readonly message: string } {
  const isPixels = source.unit === "pixels";
  const [width, height] = isPixels ? [picture.width, picture.height] : [1, 1];
  const [left, top, right, bottom] = source.box;
  if (!source.box.every(Number.isFinite))
    return { code: "box_not_a_number", message: `${source.written} holds something that is not a number` };
  if (right <= left || bottom <= top)
    return {
      code: "empty_box",
      message: `${source.written} has no area (right must be larger than left, bottom larger than top): correct or remove it`,
    };
  const slack = (side: number): number => Math.max(isPixels ? 1 : 0, 0.002 * side) + 1e-9;
  if (left < -slack(width) || top < -slack(height) || right > width + slack(width) || bottom > height + slack(height))
    return {
      code: "box_outside_picture",
      message: `${source.written} reaches outside the picture of ${picture.width}×${picture.height} pixels${hint(source, picture)}`,
    };
  const box: Box = [clip(left / width), clip(top / height), clip(right / width), clip(bottom / height)];
  if (box[2] <= box[0] || box[3] <= box[1])
    return {
      code: "empty_box",
      message: `${source.written} lies on the picture's edge and has no area inside: correct or remove it`,
    };
  return { box };
}

function clip(fraction: number): number {
  return Math.min(1, Math.max(0, fraction));
}

function hint(source: SourceBox, picture: Picture): string {
  const largest = Math.max(...source.box);
  if (source.unit === "fraction" && largest > 2)
    return "; these look like pixels, and this format wants fractions 0 to 1";
  if (
    source.unit === "pixels" &&
    largest <= 1000 &&
    Math.min(picture.width, picture.height) < 1000 &&
    Math.min(...source.box) >= 0
  )
    return ": clip it, or check whether the numbers are thousandths of the picture instead of pixels";
  return ": clip it to the picture or correct it";
}
