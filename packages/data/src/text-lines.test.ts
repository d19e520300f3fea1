import fc from "fast-check";
import { expect, test } from "vitest";
import { splitLines } from "./text-lines.ts";

async function* inPieces(text: string, size: number): AsyncIterable<Buffer> {
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}

test("lines are the same however the bytes are cut", async () => {
  const line = fc.string({ unit: "grapheme", maxLength: 12 }).filter((text) => !/[\r\n\uFEFF]/.test(text));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 6 }), fc.integer({ min: 1, max: 7 }), async (lines, size) => {
      const read = await Array.fromAsync(
        splitLines(inPieces(lines.map((text) => `${text}\r\n`).join(""), size), "a.jsonl"),
      );
      expect(read).toEqual(lines.map((text, index) => ({ line: index + 1, text })));
    }),
  );
});

test("a byte-order mark is dropped and a last line without an end is read", async () => {
  expect(await Array.fromAsync(splitLines(inPieces("\uFEFFfirst\n\nlast", 3), "a.jsonl"))).toEqual([
    { line: 1, text: "first" },
    { line: 2, text: "" },
    { line: 3, text: "last" },
  ]);
});

test("an error of the source is thrown", async () => {
  async function* broken(): AsyncIterable<Buffer> {
    yield Buffer.from("first\nsec");
    throw new Error("connection lost");
  }
  await expect(Array.fromAsync(splitLines(broken(), "a.jsonl"))).rejects.toThrow("connection lost");
});
