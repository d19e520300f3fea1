import { InvalidError } from "@drydock/kit";
import { roundHalfToEven, type Box, type BoxConvention, type Grounding, type PictureSize } from "@drydock/spec";

/** How boxes are written for one picture. */
export interface BoxSpace {
  readonly convention: BoxConvention;
  /** Size in pixels after the model's own resize; needed by `json-resized-pixels`, ignored by the others. */
  readonly resized?: PictureSize;
}

/** What a model says when nothing was found, by convention. */
export const nothingFound = { json: "[]", "internvl-ref-box": "None", "paligemma-loc": "None" } as const;

/** PaliGemma has a token for each of 1024 places along a side. */
const lastPlace = 1023;

/**
 * The factors that turn fractions of the original picture into the numbers that a model reads.
 *
 * `undocumented` families use 0–1000, which Drydock then trains.
 *
 * @throws InvalidError `resized_size_needed` for `json-resized-pixels` without `resized`
 */
export function scaleOf({ convention, resized }: BoxSpace): PictureSize {
  if (convention === "paligemma-loc") return { width: lastPlace, height: lastPlace };
  if (convention !== "json-resized-pixels") return { width: 1000, height: 1000 };
  if (!resized)
    throw new InvalidError(
      "resized_size_needed",
      `boxes of convention "${convention}" need the size of the resized picture`,
    );
  return resized;
}

/** A box in the model's own integers: left, top, right, bottom, rounded half to even as Python rounds. */
export function toModelBox(box: Box, space: BoxSpace): Box {
  const { width, height } = scaleOf(space);
  return [
    roundHalfToEven(box[0] * width),
    roundHalfToEven(box[1] * height),
    roundHalfToEven(box[2] * width),
    roundHalfToEven(box[3] * height),
  ];
}

/** A model's box as fractions of the original picture: sides put in order, clipped to 0..1. */
export function fromModelBox(box: Box, space: BoxSpace): Box {
  const { width, height } = scaleOf(space);
  const clip = (value: number): number => Math.min(1, Math.max(0, value));
  const horizontal = [clip(box[0] / width), clip(box[2] / width)] as const;
  const vertical = [clip(box[1] / height), clip(box[3] / height)] as const;
  return [Math.min(...horizontal), Math.min(...vertical), Math.max(...horizontal), Math.max(...vertical)];
}

/**
 * The answer that training teaches for a picture's groundings, in their order.
 *
 * JSON conventions: `[{"bbox_2d": [10, 20, 30, 40], "label": "cat"}]`, one object per box, `[]` for none.
 * InternVL: `<ref>cat</ref><box>[[10, 20, 30, 40]]</box>`, one pair per phrase, `None` for none.
 * PaliGemma: `<loc0020><loc0010><loc0040><loc0030> cat`, top and bottom first, one per box, ` ; ` between, `None` for none.
 */
export function writeGroundings(groundings: readonly Grounding[], space: BoxSpace): string {
  const found = groundings.filter(({ boxes }) => boxes.length > 0);
  if (space.convention === "internvl-ref-box") {
    if (found.length === 0) return nothingFound["internvl-ref-box"];
    return found
      .map(
        ({ phrase, boxes }) =>
          `<ref>${phrase}</ref><box>[${boxes.map((box) => writeNumbers(toModelBox(box, space))).join(", ")}]</box>`,
      )
      .join("\n");
  }
  if (space.convention === "paligemma-loc") {
    if (found.length === 0) return nothingFound["paligemma-loc"];
    return found
      .flatMap(({ phrase, boxes }) => boxes.map((box) => `${writePlaces(toModelBox(box, space))} ${phrase}`))
      .join(" ; ");
  }
  const objects = found.flatMap(({ phrase, boxes }) =>
    boxes.map((box) => `{"bbox_2d": ${writeNumbers(toModelBox(box, space))}, "label": ${JSON.stringify(phrase)}}`),
  );
  return `[${objects.join(", ")}]`;
}

function writeNumbers(box: Box): string {
  return `[${box.join(", ")}]`;
}

function writePlaces([left, top, right, bottom]: Box): string {
  return [top, left, bottom, right].map((place) => `<loc${String(place).padStart(4, "0")}>`).join("");
}
