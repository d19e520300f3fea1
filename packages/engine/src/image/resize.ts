import type { RgbImage } from "./decode-image.ts";

const fractionBits = 22;
/** Sums are whole numbers below 2^53, so scaling by a power of two and flooring is the arithmetic shift of the original. */
const half = 2 ** (fractionBits - 1);
const unit = 2 ** -fractionBits;

/**
 * Which axis is resized first; the bytes between the passes make it matter (up to 23 grey levels on noise, 1 on smooth
 * pictures). `pillow-13`: Pillow since 13.0, columns first when the height shrinks by more than twice what the width does.
 * `horizontal-first`: Pillow up to 12.
 */
export type PassOrder = "pillow-13" | "horizontal-first";

/**
 * Bicubic resize, bit for bit as Pillow: kernel a = −0.5 widened when shrinking, 22-bit fixed point, bytes between the
 * passes, no pass over an axis that keeps its size. Source: the algorithm of Pillow's `Resample.c`.
 *
 * torchvision, which transformers prefers where it is installed, is matched by neither order: it differs from Pillow by one
 * or two grey levels here and there.
 *
 * @param image  at least 1×1
 * @param order  by default that of the Pillow which the golden files are made with
 */
export function resizeBicubic(
  image: RgbImage,
  width: number,
  height: number,
  order: PassOrder = "pillow-13",
): RgbImage {
  return resized(image, width, height, order, bicubic);
}

/** As {@link resizeBicubic} with Pillow's bilinear filter: a triangle, widened when shrinking. */
export function resizeBilinear(
  image: RgbImage,
  width: number,
  height: number,
  order: PassOrder = "pillow-13",
): RgbImage {
  return resized(image, width, height, order, bilinear);
}

/** A kernel and how far it reaches, in pixels of the smaller side. */
interface Filter {
  readonly support: number;
  readonly weight: (distance: number) => number;
}

function resized(image: RgbImage, width: number, height: number, order: PassOrder, filter: Filter): RgbImage {
  const columnsFirst =
    order === "pillow-13" && height < image.height && image.height - height > 2 * (image.width - width);
  return columnsFirst
    ? acrossTo(downTo(image, height, filter), width, filter)
    : downTo(acrossTo(image, width, filter), height, filter);
}

/** Weights of all output pixels of one axis, flat: pixel i takes `taps` inputs from `first[i]` on, unused factors are 0. */
interface Windows {
  readonly taps: number;
  readonly first: Int32Array;
  readonly used: Int32Array;
  /** Doubles, since products of a byte and a factor leave 32 bits. */
  readonly factors: Float64Array;
}

function acrossTo(image: RgbImage, outputWidth: number, filter: Filter): RgbImage {
  const { width, height, data } = image;
  if (outputWidth === width) return image;
  const { taps, first, used, factors } = windowsOf(width, outputWidth, filter);
  const output = new Uint8ClampedArray(outputWidth * height * 3);
  let target = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < outputWidth; column++) {
      let source = (row * width + first[column]!) * 3;
      let red = half;
      let green = half;
      let blue = half;
      const start = column * taps;
      const end = start + used[column]!;
      for (let tap = start; tap < end; tap++) {
        const factor = factors[tap]!;
        red += data[source++]! * factor;
        green += data[source++]! * factor;
        blue += data[source++]! * factor;
      }
      output[target++] = Math.floor(red * unit);
      output[target++] = Math.floor(green * unit);
      output[target++] = Math.floor(blue * unit);
    }
  }
  return { width: outputWidth, height, data: new Uint8Array(output.buffer) };
}

function downTo(image: RgbImage, outputHeight: number, filter: Filter): RgbImage {
  const { width, height, data } = image;
  if (outputHeight === height) return image;
  const { taps, first, used, factors } = windowsOf(height, outputHeight, filter);
  const stride = width * 3;
  const output = new Uint8ClampedArray(stride * outputHeight);
  const sums = new Float64Array(stride);
  for (let row = 0; row < outputHeight; row++) {
    sums.fill(half);
    for (let tap = 0; tap < used[row]!; tap++) {
      const factor = factors[row * taps + tap]!;
      const source = (first[row]! + tap) * stride;
      for (let index = 0; index < stride; index++) sums[index] = sums[index]! + data[source + index]! * factor;
    }
    const target = row * stride;
    for (let index = 0; index < stride; index++) output[target + index] = Math.floor(sums[index]! * unit);
  }
  return { width, height: outputHeight, data: new Uint8Array(output.buffer) };
}

function windowsOf(inputSize: number, outputSize: number, filter: Filter): Windows {
  const scale = inputSize / outputSize;
  const widening = Math.max(scale, 1);
  const support = filter.support * widening;
  const taps = 2 * Math.ceil(support) + 1;
  const windows = {
    taps,
    first: new Int32Array(outputSize),
    used: new Int32Array(outputSize),
    factors: new Float64Array(outputSize * taps),
  };
  for (let index = 0; index < outputSize; index++) {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(inputSize, Math.trunc(centre + support + 0.5)) - first;
    const weights = Array.from({ length: count }, (_, tap) => filter.weight((first + tap - centre + 0.5) / widening));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    windows.first[index] = first;
    windows.used[index] = count;
    weights.forEach((weight, tap) => {
      windows.factors[index * taps + tap] = roundAwayFromZero((weight / total) * 2 ** fractionBits);
    });
  }
  return windows;
}

function roundAwayFromZero(value: number): number {
  return value < 0 ? Math.trunc(value - 0.5) : Math.trunc(value + 0.5);
}

const bicubic: Filter = {
  support: 2,
  weight: (distance) => {
    const a = -0.5;
    const x = Math.abs(distance);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
  },
};

const bilinear: Filter = { support: 1, weight: (distance) => Math.max(0, 1 - Math.abs(distance)) };
