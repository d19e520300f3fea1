import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readSafetensorsHeader, writeSafetensors } from "./safetensors.ts";
import { readFloatTensors } from "./read-floats.ts";

let directory: string;
beforeAll(async () => (directory = await mkdtemp(join(tmpdir(), "drydock-safetensors-"))));
afterAll(async () => await rm(directory, { recursive: true, force: true }));

/** A file with the given header and so many bytes of data. */
async function fileWith(name: string, header: unknown, dataBytes: number, claimed?: number): Promise<string> {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(claimed ?? text.length));
  const path = join(directory, name);
  await writeFile(path, Buffer.concat([length, text, Buffer.alloc(dataBytes)]));
  return path;
}

test("what was written is read back, aligned for mapping in place", async () => {
  const path = join(directory, "good.safetensors");
  await writeSafetensors(path, [
    { name: "a", shape: [2, 2], data: Float32Array.of(1, -2, 3.5, 4) },
    { name: "b", shape: [1], data: BigInt64Array.of(7n) },
  ]);
  const header = await readSafetensorsHeader(path);
  expect([...((await readFloatTensors(header, ["a"])).get("a") ?? [])]).toEqual([1, -2, 3.5, 4]);
  expect((header.tensors.get("a")?.offset ?? 1) % 64).toBe(0);
});

test("bf16 and fp16 are widened exactly", async () => {
  const header = {
    x: { dtype: "BF16", shape: [2], data_offsets: [0, 4] },
    y: { dtype: "F16", shape: [3], data_offsets: [4, 10] },
  };
  const path = await fileWith("halves.safetensors", header, 10);
  const bytes = await readFile(path);
  bytes.set(new Uint8Array(Uint16Array.of(0x3f80, 0xc020).buffer), bytes.length - 10);
  bytes.set(new Uint8Array(Uint16Array.of(0x3c00, 0xc100, 0x0001).buffer), bytes.length - 6);
  await writeFile(path, bytes);
  const tensors = await readFloatTensors(await readSafetensorsHeader(path), ["x", "y"]);
  expect([...(tensors.get("x") ?? [])]).toEqual([1, -2.5]);
  expect([...(tensors.get("y") ?? [])]).toEqual([1, -2.5, 2 ** -24]);
});

const tensor = (change: object): object => ({ w: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16], ...change } });

test.each<[string, unknown, number, number | undefined, RegExp]>([
  [
    "a header longer than the file",
    tensor({}),
    16,
    1_000_000,
    /its header claims 1000000 bytes but the file has \d+; fetch the file again/,
  ],
  ["a header that is no JSON", "{not json}", 16, undefined, /its header is no JSON/],
  ["a header that is a list", "[1]", 16, undefined, /its header is no JSON object/],
  ["an unknown element type", tensor({ dtype: "F4" }), 16, undefined, /tensor w: dtype/],
  [
    "offsets that do not fit the shape",
    tensor({ shape: [2, 3] }),
    16,
    undefined,
    /tensor w of F32 \[2, 3\] needs 24 bytes but its offsets span 16/,
  ],
  [
    "data that was cut off",
    tensor({}),
    8,
    undefined,
    /tensor w ends at byte \d+ but the file has \d+; it was cut, fetch it again/,
  ],
])("%s is refused with the reason", async (name, header, dataBytes, claimed, message) => {
  const path = await fileWith(`${name.replaceAll(" ", "-")}.safetensors`, header, dataBytes, claimed);
  await expect(readSafetensorsHeader(path)).rejects.toMatchObject({
    code: "bad_safetensors",
    message: expect.stringMatching(message) as string,
  });
});

test("a file of three bytes is refused, not read past its end", async () => {
  const path = await fileWith("short.safetensors", "{}", 0);
  await truncate(path, 3);
  await expect(readSafetensorsHeader(path)).rejects.toThrow("it has 3 bytes, too few for a safetensors file");
});
