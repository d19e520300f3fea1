import type { RgbImage } from "./decode-image.ts";

const fractionBits = 22;

/** Weights of one output pixel: first input index and fixed-point factors. */
interface Window {
  readonly first: number;
  readonly factors: Int32Array;
}

/**
 * Bicubic resize, bit for bit as Pillow up to 12 (horizontal pass first): kernel a = −0.5 widened when shrinking, 22-bit
 * fixed point, bytes between the passes. Source: the algorithm of Pillow's `Resample.c`.
 */
export function resizeBicubic(image: RgbImage, width: number, height: number): RgbImage {
  const across = image.width === width ? image : resizeRows(image, width);
  return across.height === height ? across : resizeColumns(across, height);
}

function resizeRows({ width, height, data }: RgbImage, outputWidth: number): RgbImage {
  const windows = windowsOf(width, outputWidth);
  const output = new Uint8Array(outputWidth * height * 3);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < outputWidth; column++) {
      const { first, factors } = windows[column] as Window;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (fractionBits - 1);
        for (let tap = 0; tap < factors.length; tap++) sum += (data[(row * width + first + tap) * 3 + channel] as number) * (factors[tap] as number);
        output[(row * outputWidth + column) * 3 + channel] = toByte(sum);
      }
    }
  }
  return { width: outputWidth, height, data: output };
}

function resizeColumns({ width, height, data }: RgbImage, outputHeight: number): RgbImage {
  const windows = windowsOf(height, outputHeight);
  const stride = width * 3;
  const output = new Uint8Array(stride * outputHeight);
  for (let row = 0; row < outputHeight; row++) {
    const { first, factors } = windows[row] as Window;
    for (let index = 0; index < stride; index++) {
      let sum = 1 << (fractionBits - 1);
      for (let tap = 0; tap < factors.length; tap++) sum += (data[(first + tap) * stride + index] as number) * (factors[tap] as number);
      output[row * stride + index] = toByte(sum);
    }
  }
  return { width, height: outputHeight, data: output };
}

/** Sums stay below 2^53 as doubles, so the shift is an exact floor division. */
function toByte(sum: number): number {
  const value = Math.floor(sum / 2 ** fractionBits);
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function windowsOf(inputSize: number, outputSize: number): Window[] {
  const scale = inputSize / outputSize;
  const widening = Math.max(scale, 1);
  const support = 2 * widening;
  return Array.from({ length: outputSize }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(inputSize, Math.trunc(centre + support + 0.5));
    const weights = Array.from({ length: end - first }, (_unused, tap) => kernel((first + tap - centre + 0.5) / widening));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, factors: Int32Array.from(weights, (weight) => roundAwayFromZero((weight / total) * 2 ** fractionBits)) };
  });
}

function roundAwayFromZero(value: number): number {
  return value < 0 ? Math.trunc(value - 0.5) : Math.trunc(value + 0.5);
}

function kernel(distance: number): number {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
