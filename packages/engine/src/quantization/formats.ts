/*
 * How a linear layer's weight `[out, in]` is stored in few bits: the byte layouts of ONNX Runtime's MatMulBnb4 (those of
 * bitsandbytes) and MatMulNBits, so that the bytes of a file are what the operators read.
 */
import { InvalidError } from "@drydock/kit";

/**
 * `nf4`, `fp4`: 16 values by a table, blocks over the flattened weight, first element of a byte in its high half;
 * value = table[code] · scale. `int4`, `int8`: blocks within a row, the row padded to whole blocks, first element in the low
 * half; value = (code − 8 or 128) · scale.
 */
export const quantizedFormats = ["nf4", "fp4", "int4", "int8"] as const;
export type QuantizedFormat = (typeof quantizedFormats)[number];

/** How one weight is stored. */
export interface QuantizedLayout {
  readonly format: QuantizedFormat;
  /** Weights that share a scale. */
  readonly blockSize: number;
  readonly in: number;
  readonly out: number;
}

/** Normal float (Dettmers et al. 2023, arXiv 2305.14314): quantiles of a normal distribution; and bitsandbytes' 4-bit float. */
export const codeBooks: Readonly<Record<"nf4" | "fp4", readonly number[]>> = {
  nf4: [
    -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
  ],
  fp4: [
    0, 0.0052083334885537624, 0.6666666865348816, 1, 0.3333333432674408, 0.5, 0.1666666716337204, 0.25, 0,
    -0.0052083334885537624, -0.6666666865348816, -1, -0.3333333432674408, -0.5, -0.1666666716337204, -0.25,
  ],
};

export const defaultBlockSize = 64;
const smallestBlock = 16;
const largestBlock = 4096;

export function isTableFormat(format: QuantizedFormat): format is "nf4" | "fp4" {
  return format === "nf4" || format === "fp4";
}

export function bitsOf(format: QuantizedFormat): 4 | 8 {
  return format === "int8" ? 8 : 4;
}

/** @throws InvalidError `unknown_quantization` with the formats that there are */
export function parseFormat(text: string): QuantizedFormat {
  const format = quantizedFormats.find((known) => known === text);
  if (format) return format;
  throw new InvalidError(
    "unknown_quantization",
    `quantization "${text}" is not known: use one of ${quantizedFormats.join(", ")}`,
  );
}

/** @throws InvalidError `bad_block_size` unless it is a power of two that the operators take */
export function checkBlockSize(blockSize: number): void {
  const isPower = Number.isInteger(blockSize) && Number.isInteger(Math.log2(blockSize));
  if (isPower && blockSize >= smallestBlock && blockSize <= largestBlock) return;
  throw new InvalidError(
    "bad_block_size",
    `block size ${blockSize} does not fit: use a power of two from ${smallestBlock} to ${largestBlock}, such as ${defaultBlockSize}`,
  );
}

/** @throws InvalidError `bad_block_size` when a block is longer than what it is cut from */
export function checkLayout(path: string, { format, blockSize, in: width, out }: QuantizedLayout): void {
  const length = isTableFormat(format) ? width * out : width;
  if (blockSize <= length) return;
  throw new InvalidError(
    "bad_block_size",
    `block size ${blockSize} does not fit ${path}, whose ${isTableFormat(format) ? "weight has" : "rows have"} ${length} elements: use at most ${2 ** Math.floor(Math.log2(length))}`,
  );
}

/** Blocks of one row of an integer format. */
export function blocksOfRow({ in: width, blockSize }: QuantizedLayout): number {
  return Math.ceil(width / blockSize);
}

/** Shape of the bytes: flat for tables, `[out, blocks, bytes of a block]` for integers. */
export function packedShape(layout: QuantizedLayout): readonly number[] {
  if (isTableFormat(layout.format)) return [Math.ceil((layout.out * layout.in) / 2)];
  return [layout.out, blocksOfRow(layout), (layout.blockSize * bitsOf(layout.format)) / 8];
}

/** Shape of the scales, float32. */
export function scalesShape(layout: QuantizedLayout): readonly number[] {
  if (isTableFormat(layout.format)) return [Math.ceil((layout.out * layout.in) / layout.blockSize)];
  return [layout.out, blocksOfRow(layout)];
}
