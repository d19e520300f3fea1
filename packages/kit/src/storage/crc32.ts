import { createReadStream } from "node:fs";
import { crc32 } from "node:zlib";

/** CRC-32 (ISO 3309) as S3 writes it in headers: 4 bytes big-endian, base64. */
export function encodeCrc32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes.toString("base64");
}

/** CRC-32 of the bytes `[start, endExclusive)` of a file. */
export async function crc32OfFile(path: string, start: number, endExclusive: number): Promise<number> {
  if (endExclusive <= start) return 0;
  let value = 0;
  for await (const chunk of createReadStream(path, { start, end: endExclusive - 1, highWaterMark: 1 << 20 }))
    value = crc32(chunk as Buffer, value);
  return value;
}

const polynomial = 0xedb88320;

/**
 * CRC-32 of two byte strings one after the other, from the CRC-32 of each and the length of the second: the first is
 * multiplied by x^(8·length) modulo the polynomial (zlib's `crc32_combine`).
 */
export function combineCrc32(first: number, second: number, secondSizeBytes: number): number {
  let power = 0x80000000; // x^0, reflected
  let square = 0x00800000; // x^8: one byte
  for (let rest = secondSizeBytes; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = multiply(square, power);
    square = multiply(square, square);
  }
  return (multiply(power, first) ^ second) >>> 0;
}

/** Product of two polynomials over GF(2) modulo CRC-32's, both reflected. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b >>> 0;
  for (let mask = 0x80000000; mask !== 0; mask >>>= 1) {
    if ((a & mask) !== 0) product ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ polynomial : shifted >>> 1;
  }
  return product >>> 0;
}
