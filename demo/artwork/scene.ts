import type { Random } from "./random.ts";
import { poseDrawing, type Drawing } from "./sprites.ts";

/** Left, top, right, bottom in pixels; right and bottom are exclusive. */
export type PixelBox = readonly [number, number, number, number];

export type Place = "top left" | "top right" | "bottom left" | "bottom right" | "middle";

export interface SceneObject {
  readonly name: string;
  readonly box: PixelBox;
  readonly place: Place;
}

/** A small picture and what is in it. */
export interface Scene {
  readonly width: number;
  readonly height: number;
  /** RGB, 8 bits, row by row. */
  readonly pixels: Uint8Array;
  readonly background: string;
  readonly objects: readonly SceneObject[];
}

/** One drawing to put into a scene. */
export interface Subject {
  readonly name: string;
  readonly drawing: Drawing;
}

/** Side of a scene, pixels. */
export const sceneSize = 64;
/** Side of a scene with room for one drawing only. */
export const stampSize = 32;

const backgrounds: Readonly<Record<string, readonly [number, number, number]>> = {
  white: [250, 250, 250],
  grey: [176, 178, 182],
  pink: [250, 200, 214],
  yellow: [250, 240, 170],
  green: [180, 226, 180],
  blue: [176, 212, 248],
  purple: [214, 190, 240],
  orange: [252, 208, 160],
  black: [44, 46, 52],
};
export const backgroundNames: readonly string[] = Object.keys(backgrounds);

const corners: readonly { readonly place: Place; readonly left: number; readonly top: number }[] = [
  { place: "top left", left: 0, top: 0 },
  { place: "top right", left: 1, top: 0 },
  { place: "bottom left", left: 0, top: 1 },
  { place: "bottom right", left: 1, top: 1 },
];

/** Opacity from which a pixel counts as part of an object. */
const visibleAlpha = 48;

/**
 * A scene of one to four drawings on a coloured ground. One alone is large and near the middle; several stand in
 * different quarters, at different sizes and offsets. Boxes are the tight bounds of the visible pixels.
 */
export function composeScene(
  subjects: readonly Subject[],
  random: Random,
  side: typeof sceneSize | typeof stampSize = sceneSize,
): Scene {
  const background = random.pick(backgroundNames);
  const ground = paintGround(background, side, random);
  const places = random.shuffle(corners);
  const objects = subjects.map((subject, index): SceneObject => {
    const isAlone = subjects.length === 1;
    const size = isAlone && side === sceneSize ? random.integer(28, 46) : random.integer(22, 31);
    const corner = places[index]!;
    const [cellLeft, cellTop, cell] = isAlone ? [0, 0, side] : [corner.left * 32, corner.top * 32, 32];
    const left = cellLeft + random.integer(0, cell - size);
    const top = cellTop + random.integer(0, cell - size);
    const pose = { size, isMirrored: random.next() < 0.5, angleDegrees: random.integer(-10, 10) };
    const box = paintDrawing(ground, poseDrawing(subject.drawing, pose), left, top, 0.88 + random.next() * 0.2);
    return { name: subject.name, box, place: isAlone ? "middle" : corner.place };
  });
  return { width: side, height: side, pixels: ground.pixels, background, objects };
}

interface Ground {
  readonly side: number;
  readonly pixels: Uint8Array;
}

/** Plain, shaded from top to bottom, or striped: always the same hue. */
function paintGround(background: string, side: number, random: Random): Ground {
  const colour = backgrounds[background]!;
  const pixels = new Uint8Array(side * side * 3);
  const style = random.pick(["plain", "shaded", "striped"] as const);
  const strength = 8 + random.integer(0, 14);
  const period = random.integer(5, 12);
  const slope = random.pick([0, 1, -1]);
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const stripe = ((((x + slope * y) % period) + period) % period) * 2 < period ? 1 : 0;
      const change = { plain: 0, shaded: (y / side - 0.5) * 2 * strength, striped: -stripe * strength }[style];
      for (let channel = 0; channel < 3; channel += 1) {
        pixels[(y * side + x) * 3 + channel] = Math.max(0, Math.min(255, Math.round(colour[channel]! + change)));
      }
    }
  }
  return { side, pixels };
}

function paintDrawing(
  { side, pixels }: Ground,
  drawing: Drawing,
  left: number,
  top: number,
  brightness: number,
): PixelBox {
  let [x0, y0, x1, y1] = [side, side, 0, 0];
  for (let y = 0; y < drawing.size; y += 1) {
    for (let x = 0; x < drawing.size; x += 1) {
      const from = (y * drawing.size + x) * 4;
      const alpha = drawing.pixels[from + 3]!;
      if (alpha === 0) continue;
      if (alpha >= visibleAlpha)
        [x0, y0, x1, y1] = [
          Math.min(x0, left + x),
          Math.min(y0, top + y),
          Math.max(x1, left + x + 1),
          Math.max(y1, top + y + 1),
        ];
      const to = ((top + y) * side + left + x) * 3;
      for (let channel = 0; channel < 3; channel += 1) {
        const colour = Math.min(255, drawing.pixels[from + channel]! * brightness);
        pixels[to + channel] = Math.round((colour * alpha + pixels[to + channel]! * (255 - alpha)) / 255);
      }
    }
  }
  return [x0, y0, x1, y1];
}
