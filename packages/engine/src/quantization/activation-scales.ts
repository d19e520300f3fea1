/*
 * Scales of inputs by what a layer is really given (Lin et al. 2023, AWQ, arXiv 2306.00978): columns of a weight that meet
 * large inputs are multiplied before rounding, and those inputs divided, so that what matters more is rounded finer.
 *
 * Differences from the paper: the error is that of each output by itself with inputs taken as uncorrelated, Σ E[x²]·ΔW², which
 * needs the mean squares of the inputs alone and one pass over the weight; the size of an input is its root mean square
 * rather than its mean absolute value; and the division stays a multiplication of the inputs in the graph instead of going
 * into the norm before, so that layers of any family can have it.
 */
import type { QuantizedLayout } from "./formats.ts";
import { dequantizeWeight, quantizeWeight, type PackedWeight, type RangeOptions } from "./quantize-weight.ts";

/** What a layer is given, by input. */
export interface InputPower {
  /** `[in]`: mean of x² over all rows of the calibration. */
  readonly meanSquares: Float32Array;
}

export interface BalancedWeight {
  /** Of the weight with its columns multiplied. */
  readonly weight: PackedWeight;
  /** `[in]` by which the inputs are multiplied; null when plain rounding was best. */
  readonly inputScales: Float32Array | null;
  readonly exponent: number;
}

/** Exponents that are tried; 0 is plain rounding, so the result is never worse than that by the measure used. */
const exponents = Array.from({ length: 11 }, (_, step) => step / 10);
const smallest = 1e-8;

export function balanceInputs(
  values: Float32Array,
  layout: QuantizedLayout,
  { meanSquares }: InputPower,
  options: RangeOptions,
): BalancedWeight {
  let best: (BalancedWeight & { readonly error: number }) | null = null;
  for (const exponent of exponents) {
    const inputScales = exponent === 0 ? null : scalesOf(meanSquares, exponent);
    const balanced = inputScales
      ? values.map((value, index) => value / (inputScales[index % layout.in] as number))
      : values;
    const weight = quantizeWeight(balanced, layout, options);
    const stored = dequantizeWeight(weight, layout);
    if (inputScales) undoScales(stored, inputScales);
    const error = weightedError(values, stored, meanSquares);
    if (best === null || error < best.error) best = { weight, inputScales, exponent, error };
  }
  return best as BalancedWeight;
}

/** The weight that stands for `stored` and the scales of its inputs together. */
export function undoScales(stored: Float32Array, inputScales: Float32Array): void {
  for (let index = 0; index < stored.length; index++)
    stored[index] = (stored[index] as number) * (inputScales[index % inputScales.length] as number);
}

/** Inverse powers of the inputs' sizes, their geometric middle at 1. */
function scalesOf(meanSquares: Float32Array, exponent: number): Float32Array {
  const sizes = meanSquares.map((square) => Math.max(Math.sqrt(square), smallest) ** exponent);
  const middle = Math.sqrt(sizes.reduce((a, b) => Math.max(a, b)) * sizes.reduce((a, b) => Math.min(a, b)));
  return sizes.map((size) => middle / size);
}

function weightedError(before: Float32Array, after: Float32Array, meanSquares: Float32Array): number {
  let sum = 0;
  before.forEach((value, index) => {
    sum += (meanSquares[index % meanSquares.length] as number) * (value - (after[index] as number)) ** 2;
  });
  return sum;
}
