import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { expect, test } from "vitest";
import { combineCrc32, encodeCrc32 } from "./crc32.ts";

test("the check value of CRC-32 is written as S3 writes it", () => {
  expect(encodeCrc32(crc32("123456789"))).toBe("y/Q5Jg=="); // 0xCBF43926
});

test.each([
  [0, 0],
  [7, 0],
  [0, 7],
  [5, 3],
  [1000, 70_001],
])("the CRC-32 of %i and %i bytes is that of both together", (first, second) => {
  const [a, b] = [randomBytes(first), randomBytes(second)];
  expect(combineCrc32(crc32(a), crc32(b), b.length)).toBe(crc32(Buffer.concat([a, b])));
});
