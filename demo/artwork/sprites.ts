import sharp from "sharp";

/** A drawing as pixels: RGBA, 8 bits, straight alpha, row by row. */
export interface Drawing {
  readonly size: number;
  readonly pixels: Uint8Array;
}

/** How a drawing is placed in a scene. */
export interface Pose {
  /** Side of the square it fills, pixels. */
  readonly size: number;
  readonly isMirrored: boolean;
  /** Clockwise. */
  readonly angleDegrees: number;
}

/** Side of a drawing as rendered once; every size in a scene is resampled from it. */
const masterSize = 96;
/** Samples per output pixel and axis. */
const samplesPerAxis = 3;

/** Renders an SVG document once, fitted into a square and centred on transparency. */
export async function renderDrawing(svg: string): Promise<Drawing> {
  const { data, info } = await sharp(Buffer.from(svg), { density: 300 })
    .resize(masterSize, masterSize, { fit: "contain", background: { r: 0, g: 0, b: 0, alpha: 0 } })
    .ensureAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { size: info.width, pixels: new Uint8Array(data) };
}

/** The drawing in a pose, by averaging 3×3 samples of the original for each pixel, colours weighted by their opacity. */
export function poseDrawing(drawing: Drawing, pose: Pose): Drawing {
  const pixels = new Uint8Array(pose.size * pose.size * 4);
  const scale = drawing.size / pose.size;
  const radians = (-pose.angleDegrees * Math.PI) / 180;
  const [cosine, sine] = [Math.cos(radians) * scale, Math.sin(radians) * scale];
  const mirror = pose.isMirrored ? -1 : 1;
  const [half, middle] = [pose.size / 2, drawing.size / 2];
  for (let y = 0; y < pose.size; y += 1) {
    for (let x = 0; x < pose.size; x += 1) {
      let [red, green, blue, alpha] = [0, 0, 0, 0];
      for (let sample = 0; sample < samplesPerAxis * samplesPerAxis; sample += 1) {
        const dx = x - half + ((sample % samplesPerAxis) + 0.5) / samplesPerAxis;
        const dy = y - half + (Math.floor(sample / samplesPerAxis) + 0.5) / samplesPerAxis;
        const sourceX = Math.floor(middle + mirror * (dx * cosine - dy * sine));
        const sourceY = Math.floor(middle + dx * sine + dy * cosine);
        if (sourceX < 0 || sourceY < 0 || sourceX >= drawing.size || sourceY >= drawing.size) continue;
        const at = (sourceY * drawing.size + sourceX) * 4;
        const opacity = drawing.pixels[at + 3]!;
        red += drawing.pixels[at]! * opacity;
        green += drawing.pixels[at + 1]! * opacity;
        blue += drawing.pixels[at + 2]! * opacity;
        alpha += opacity;
      }
      if (alpha === 0) continue;
      const to = (y * pose.size + x) * 4;
      pixels[to] = Math.round(red / alpha);
      pixels[to + 1] = Math.round(green / alpha);
      pixels[to + 2] = Math.round(blue / alpha);
      pixels[to + 3] = Math.round(alpha / (samplesPerAxis * samplesPerAxis));
    }
  }
  return { size: pose.size, pixels };
}
