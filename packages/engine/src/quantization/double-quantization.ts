/*
 * Scales of scales, as bitsandbytes stores them: the scales of a weight less their mean, as 8-bit codes of a table with one
 * float32 for each 256 of them. Dettmers et al. 2023, arXiv 2305.14314, section 3.
 */
import { sharedFloats } from "../runtime/shared-floats.ts";
import { nearestCode } from "./quantize-weight.ts";

export const nestedBlockSize = 256;

export interface NestedScales {
  /** One code a scale. */
  readonly codes: Uint8Array;
  /** Largest size in each block of scales. */
  readonly scales: Float32Array;
  /** 256 values in −1…1. */
  readonly table: Float32Array;
  readonly offset: number;
  readonly blockSize: number;
}

/**
 * bitsandbytes' signed dynamic map of 8 bits (`create_dynamic_map`, bitsandbytes 0.50): seven decades, each with twice as
 * many steps as the one before, at the middles of equal parts of 0.1…1; 0 and 1.
 */
export function dynamicTable(): Float32Array {
  const values: number[] = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const steps = 2 ** decade;
    for (let step = 0; step < steps; step++) {
      const middle = 10 ** (decade - 6) * (0.1 + (0.9 * (step + 0.5)) / steps);
      values.push(middle, -middle);
    }
  }
  return Float32Array.from(values).sort();
}

export function nestScales(scales: Float32Array): NestedScales {
  const offset = Math.fround(scales.reduce((sum, scale) => sum + scale, 0) / scales.length);
  const table = dynamicTable();
  const nearest = nearestCode([...table]);
  const codes = new Uint8Array(scales.length);
  const outer = new Float32Array(Math.ceil(scales.length / nestedBlockSize));
  for (let block = 0; block < outer.length; block++) {
    const start = block * nestedBlockSize;
    const part = scales.subarray(start, start + nestedBlockSize).map((scale) => scale - offset);
    const largest = part.reduce((size, value) => Math.max(size, Math.abs(value)), 0);
    outer[block] = largest;
    part.forEach((value, index) => (codes[start + index] = nearest(largest === 0 ? 0 : value / largest)));
  }
  return { codes, scales: outer, table, offset, blockSize: nestedBlockSize };
}

/** The scales that nested ones stand for, in shared memory. */
export function unnestScales({ codes, scales, table, offset, blockSize }: NestedScales): Float32Array {
  const result = sharedFloats(codes.length);
  codes.forEach((code, index) => {
    // Each step in float32, as the reference computes it.
    const scaled = Math.fround((table[code] as number) * (scales[Math.floor(index / blockSize)] as number));
    result[index] = scaled + Math.fround(offset);
  });
  return result;
}
