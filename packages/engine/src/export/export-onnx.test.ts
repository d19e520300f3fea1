import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tinyVisionConfig, twoRows } from "../../test/tiny-vision-model.ts";
import { sizeNodes } from "../graph/onnx/sizes.ts";
import { createRandomModel } from "../models/random-model.ts";
import { quantizedFormats } from "../quantization/formats.ts";
import { writeQuantizedFolder } from "../quantization/write-quantized-folder.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import { readSafetensorsHeader, readTensorBytes } from "../weights/safetensors.ts";
import { exportOnnx } from "./export-onnx.ts";

let scratch: string;
let base: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-export-"));
  base = join(scratch, "base");
  await createRandomModel(tinyVisionConfig, base, 1);
});
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

/** Largest difference between what a graph file gives and what the example beside it says. */
async function exampleDifference(folder: string, name: string): Promise<number> {
  const header = await readSafetensorsHeader(join(folder, `example-${name}.safetensors`));
  const tensors = new Map<string, Tensor>();
  for (const { name: key, type, shape } of header.tensors.values()) {
    if (type === "F32") {
      const data = (await readFloatTensors(header, [key])).get(key) as Float32Array;
      tensors.set(key, new Tensor("float32", data, shape));
    } else tensors.set(key, new Tensor("int64", new BigInt64Array((await readTensorBytes(header, key)).buffer), shape));
  }
  const session = await InferenceSession.create(join(folder, `${name}.onnx`));
  const feeds = Object.fromEntries(session.inputNames.map((input) => [input, tensors.get(`input:${input}`) as Tensor]));
  const results = await session.run(feeds);
  await session.release();
  return Math.max(
    ...session.outputNames.map((output) => {
      const expected = tensors.get(`output:${output}`)?.data as Float32Array;
      const actual = results[output]?.data as Float32Array;
      expect(actual).toHaveLength(expected.length);
      return expected.reduce((most, value, at) => Math.max(most, Math.abs(value - (actual[at] as number))), 0);
    }),
  );
}

describe("an export", () => {
  let out: string;
  beforeAll(async () => {
    out = join(scratch, "onnx");
    await exportOnnx(base, out, twoRows());
  });

  test.each(["prefill-images", "decode"])(
    "runs from its files alone, with inputs that have a meaning: %s",
    async (name) => {
      expect(await exampleDifference(out, name)).toBeLessThan(1e-5);
    },
  );

  test("has a README that names every input and output", async () => {
    const readme = await readFile(join(out, "README.md"), "utf8");
    for (const name of ["prefill", "prefill-images", "decode"]) {
      const session = await InferenceSession.create(join(out, `${name}.onnx`));
      for (const value of [...session.inputNames, ...session.outputNames]) expect(readme).toContain(`| \`${value}\` |`);
      await session.release();
    }
  });

  test("has the model's other files", async () => {
    expect(await readdir(out)).toEqual(expect.arrayContaining(["config.json", "model.safetensors"]));
  });
});

test.each([...quantizedFormats.map((format) => [format, false] as const), ["nf4", true] as const])(
  "weights in %s are exported as they are, scales in 8 bits: %s",
  async (format, doubleQuantization) => {
    const [quantized, out] = [
      join(scratch, `${format}-${doubleQuantization}`),
      join(scratch, `${format}-${doubleQuantization}-onnx`),
    ];
    await writeQuantizedFolder(base, quantized, { format, blockSize: 16, doubleQuantization });
    await exportOnnx(quantized, out);
    for (const name of ["prefill", "decode"]) expect(await exampleDifference(out, name)).toBeLessThan(1e-4);
  },
);

test("a folder with files in it is refused, and so is the model's own", async () => {
  await expect(exportOnnx(base, join(scratch, "onnx"))).rejects.toThrow("has files in it: name a new one");
  await expect(exportOnnx(base, base)).rejects.toThrow("is the model itself: name another folder");
});

describe("sizes", () => {
  const inputs = new Map([
    ["a", { shape: ["B", "T", 3] }],
    ["b", { shape: ["4*Q"] }],
  ]);
  const types = (size: string): (string | undefined)[] =>
    sizeNodes([size], inputs, String).map(({ type, outputs }) => `${type} ${outputs[0]}`);

  test("are axes of inputs, products and parts of them", () => {
    expect(types("T")).toEqual(["Shape dim:T"]);
    expect(types("B*T")).toEqual(["Shape dim:B", "Shape dim:T", "Mul dim:B*T"]);
    expect(types("Q")).toEqual(["Shape dim:4*Q", "Div dim:Q"]);
  });

  test("that no input tells are named", () => {
    expect(() => types("S")).toThrow("no input of the graph tells the size S");
  });
});
