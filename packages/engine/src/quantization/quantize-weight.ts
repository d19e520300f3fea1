import { sharedFloats } from "../runtime/shared-floats.ts";
import {
  bitsOf,
  blocksOfRow,
  codeBooks,
  isTableFormat,
  packedShape,
  scalesShape,
  type QuantizedLayout,
} from "./formats.ts";

/** A weight in few bits, in shared memory. */
export interface PackedWeight {
  readonly packed: Uint8Array;
  readonly scales: Float32Array;
}

export interface RangeOptions {
  /** Share of a block's values, by size, that the scale is chosen for; the rest is clipped. 100, the default: the largest. */
  readonly percentile?: number;
}

/** Rounds a weight `[out, in]` to the nearest values that the layout can hold. */
export function quantizeWeight(
  values: Float32Array,
  layout: QuantizedLayout,
  options: RangeOptions = {},
): PackedWeight {
  const packed = new Uint8Array(new SharedArrayBuffer(sizeOf(packedShape(layout))));
  const scales = sharedFloats(sizeOf(scalesShape(layout)));
  if (isTableFormat(layout.format)) quantizeByTable(values, layout, layout.format, packed, scales, options);
  else quantizeToIntegers(values, layout, packed, scales, options);
  return { packed, scales };
}

/** The float32 weight `[out, in]` that packed bytes stand for. */
export function dequantizeWeight({ packed, scales }: PackedWeight, layout: QuantizedLayout): Float32Array {
  const values = sharedFloats(layout.out * layout.in);
  const { blockSize, in: width, format } = layout;
  if (isTableFormat(format)) {
    const table = Float32Array.from(codeBooks[format]);
    for (let index = 0; index < values.length; index++) {
      const byte = packed[index >> 1] as number;
      const code = index % 2 === 0 ? byte >> 4 : byte & 15;
      values[index] = (table[code] as number) * (scales[Math.floor(index / blockSize)] as number);
    }
    return values;
  }
  const bits = bitsOf(format);
  const zero = 2 ** (bits - 1);
  const blocks = blocksOfRow(layout);
  for (let row = 0; row < layout.out; row++)
    for (let column = 0; column < width; column++) {
      const place = row * blocks * blockSize + column;
      const byte = packed[bits === 8 ? place : place >> 1] as number;
      const code = bits === 8 ? byte : place % 2 === 0 ? byte & 15 : byte >> 4;
      values[row * width + column] = (code - zero) * (scales[row * blocks + Math.floor(column / blockSize)] as number);
    }
  return values;
}

function quantizeByTable(
  values: Float32Array,
  { blockSize }: QuantizedLayout,
  format: "nf4" | "fp4",
  packed: Uint8Array,
  scales: Float32Array,
  options: RangeOptions,
): void {
  const nearest = nearestCode(codeBooks[format]);
  for (let block = 0; block < scales.length; block++) {
    const start = block * blockSize;
    const end = Math.min(start + blockSize, values.length);
    const scale = Math.abs(extremeOf(values, start, end, options));
    scales[block] = scale;
    const inverse = scale === 0 ? 0 : 1 / (scales[block] as number);
    for (let index = start; index < end; index++) {
      const code = nearest((values[index] as number) * inverse);
      packed[index >> 1] = (packed[index >> 1] as number) | (index % 2 === 0 ? code << 4 : code);
    }
  }
}

function quantizeToIntegers(
  values: Float32Array,
  layout: QuantizedLayout,
  packed: Uint8Array,
  scales: Float32Array,
  options: RangeOptions,
): void {
  const { in: width, out, blockSize, format } = layout;
  const blocks = blocksOfRow(layout);
  const bits = bitsOf(format);
  const zero = 2 ** (bits - 1);
  for (let row = 0; row < out; row++)
    for (let block = 0; block < blocks; block++) {
      const start = row * width + block * blockSize;
      const end = Math.min(start + blockSize, (row + 1) * width);
      const extreme = extremeOf(values, start, end, options);
      // Of sixteen steps one more lies below zero than above: the largest value takes that one.
      const scale = Math.fround(bits === 8 ? Math.abs(extreme) / 127 : extreme / -zero);
      scales[row * blocks + block] = scale;
      const firstPlace = (row * blocks + block) * blockSize;
      for (let offset = 0; offset < blockSize; offset++) {
        const value = start + offset < end ? (values[start + offset] as number) : 0;
        const step = scale === 0 ? 0 : roundHalfToEven(value / scale);
        const code = Math.min(2 * zero - 1, Math.max(0, step + zero));
        const place = firstPlace + offset;
        if (bits === 8) packed[place] = code;
        else packed[place >> 1] = (packed[place >> 1] as number) | (place % 2 === 0 ? code : code << 4);
      }
    }
}

/** The value of largest size of a block, or one of the size of the percentile, with the sign of the largest. */
function extremeOf(values: Float32Array, start: number, end: number, { percentile = 100 }: RangeOptions): number {
  let extreme = 0;
  for (let index = start; index < end; index++)
    if (Math.abs(values[index] as number) > Math.abs(extreme)) extreme = values[index] as number;
  if (percentile >= 100) return extreme;
  const sizes = values.slice(start, end).map(Math.abs).sort();
  const place = ((sizes.length - 1) * percentile) / 100;
  const below = sizes[Math.floor(place)] as number;
  const above = sizes[Math.ceil(place)] as number;
  return Math.sign(extreme) * (below + (above - below) * (place - Math.floor(place)));
}

/** Index of the nearest value of a table; half way between two, the lower one. */
export function nearestCode(table: readonly number[]): (value: number) => number {
  // FP4 has two zeros: what is a little above takes the second, as bitsandbytes has it.
  const sorted = table.map((value, code) => [value, code] as const).sort(([a], [b]) => a - b);
  const codes = sorted.map(([, code]) => code);
  const bounds = sorted.slice(1).map(([value], index) => (value + (sorted[index] as readonly [number, number])[0]) / 2);
  return (value) => {
    let low = 0;
    let high = bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (value > (bounds[middle] as number)) low = middle + 1;
      else high = middle;
    }
    return codes[low] as number;
  };
}

function roundHalfToEven(value: number): number {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, side) => size * side, 1);
}
