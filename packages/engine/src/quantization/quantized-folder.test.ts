import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tinyVisionConfig, twoRows } from "../../test/tiny-vision-model.ts";
import { loadModel } from "../models/load-model.ts";
import { createRandomModel } from "../models/random-model.ts";
import { EngineTrainer, type TrainerOptions } from "../training/trainer.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { readWeights } from "../weights/read-weights.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import {
  readSafetensorsHeader,
  readTensorBytes,
  writeSafetensors,
  writeTensorsInTurn,
  type TensorSource,
} from "../weights/safetensors.ts";
import type { InputPower } from "./activation-scales.ts";
import { quantizedFormats } from "./formats.ts";
import { decoderLinears } from "./quantized-weights.ts";
import { writeDequantizedFolder } from "./write-dequantized-folder.ts";
import { writeQuantizedFolder, type QuantizeOptions } from "./write-quantized-folder.ts";

/** Widths of 16, 24 and 32: blocks of 16 end within some rows. */
const blockSize = 16;
const batch = twoRows();
/** The code path of a GPU, on the CPU. */
const device = { kind: "cpu", index: 0, threads: 1, matrices: "float32" } as const;
let scratch: string;
let base: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-quantized-"));
  base = join(scratch, "base");
  await createRandomModel(tinyVisionConfig, base, 3);
  await enlarge(join(base, "model.safetensors"));
});
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

/** Ten times the weights, so that layers change what passes through them, and adapters have something to learn on. */
async function enlarge(path: string): Promise<void> {
  const header = await readSafetensorsHeader(path);
  const tensors = [...(await readFloatTensors(header, header.tensors.keys()))].map(([name, data]) => {
    const { shape } = header.tensors.get(name) ?? { shape: [] };
    return { name, shape, data: shape.length > 1 ? data.map((value) => value * 10) : data };
  });
  await writeSafetensors(path, tensors);
}

async function logitsOf(options: Omit<Parameters<typeof loadModel>[0], "threads">): Promise<Float32Array> {
  const { generator } = await loadModel({ ...options, threads: 1 });
  const logits = await generator.logits(batch);
  await generator.close();
  return logits;
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, index) => Math.max(most, Math.abs(value - (b[index] as number))), 0);
}

const inputPower = (): Promise<ReadonlyMap<string, InputPower>> =>
  openModelFolder(base).then(
    ({ model }) =>
      new Map(
        [...decoderLinears(model)].map(([path, { in: width }]) => [
          path,
          { meanSquares: Float32Array.from({ length: width }, (_, index) => (index % 5 === 0 ? 9 : 0.1)) },
        ]),
      ),
  );

describe.each([
  ...quantizedFormats.map((format) => ({ name: format, format, further: {} })),
  { name: "nf4 twice", format: "nf4" as const, further: { doubleQuantization: true } },
  { name: "nf4 by activations", format: "nf4" as const, further: { calibrated: true } },
  { name: "int4 by activations", format: "int4" as const, further: { calibrated: true } },
])("a folder of $name", ({ name, format, further }) => {
  let directory: string;
  let floats: string;
  let errors: Awaited<ReturnType<typeof writeQuantizedFolder>>;
  beforeAll(async () => {
    directory = join(scratch, name.replaceAll(" ", "-"));
    floats = `${directory}-floats`;
    const { calibrated = false, ...options }: { calibrated?: boolean } & Partial<QuantizeOptions> = further;
    const settings = { format, blockSize, ...options, ...(calibrated ? { inputPower: await inputPower() } : {}) };
    errors = await writeQuantizedFolder(base, directory, settings);
    await writeDequantizedFolder(directory, floats);
  });

  test("tells how far each layer of the decoder is from what it was", () => {
    expect(errors).toHaveLength(14);
    for (const error of errors) {
      expect(error.relativeError).toBeGreaterThan(0);
      expect(error.relativeError).toBeLessThan(format === "int8" ? 0.01 : 0.2);
    }
  });

  test("answers as the model with the weights that its bytes stand for", async () => {
    const quantized = await logitsOf({ directory });
    const reference = await logitsOf({ directory: floats });
    expect(largestDifference(quantized, reference)).toBeLessThan(1e-4);
    expect(largestDifference(quantized, await logitsOf({ directory: base }))).toBeGreaterThan(1e-6);
  });

  test("answers on a device as well", async () => {
    expect(largestDifference(await logitsOf({ directory, device }), await logitsOf({ directory }))).toBeLessThan(1e-4);
  });

  test.each([
    ["in one piece", {}],
    ["layer by layer", { recomputes: true }],
    ["on a device", { device }],
  ])("an adapter on it trains as on those weights, %s", async (_how, options) => {
    const curve = async (modelDirectory: string): Promise<number[]> => {
      const trainer = await EngineTrainer.open({ ...training, ...options, directory: modelDirectory });
      const losses: number[] = [];
      for (let step = 0; step < 10; step++) losses.push((await trainer.step([batch])).loss);
      await trainer.close();
      return losses;
    };
    const losses = await curve(directory);
    const reference = await curve(floats);
    losses.forEach((loss, step) => expect(Math.abs(loss - (reference[step] as number))).toBeLessThan(1e-3));
    expect(losses.at(-1)).toBeLessThan((losses[0] as number) - 0.05);
  });
});

const training: Omit<TrainerOptions, "directory"> = {
  mode: "lora",
  lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
  optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
  schedule: { kind: "constant", learningRate: 0.02, warmupRatio: 0, totalSteps: 10 },
  seed: 1,
  threads: 1,
};

test("weights quantized as they are read are those of a stored folder", async () => {
  const stored = await logitsOf({ directory: join(scratch, "nf4") });
  expect(await logitsOf({ directory: base, quantize: { format: "nf4", blockSize } })).toEqual(stored);
});

test("rounding by activations is no worse than plain rounding where it counts", async () => {
  const [plain, balanced] = await Promise.all(
    [false, true].map(async (isBalanced) => {
      const power = await inputPower();
      const options = { format: "int4", blockSize, inputPower: power } as const;
      const squares = [...power].map(
        ([path, { meanSquares }]) => [path, { meanSquares: meanSquares.map(() => 1) }] as const,
      );
      const errors = await writeQuantizedFolder(base, join(scratch, `balanced-${isBalanced}`), {
        ...options,
        inputPower: isBalanced ? power : new Map(squares),
      });
      return { errors, power };
    }),
  );
  expect(plain?.errors.every(({ exponent }) => exponent === 0)).toBe(true);
  expect(balanced?.errors.some(({ exponent }) => (exponent ?? 0) > 0)).toBe(true);
});

test("values outside a percentile are clipped", async () => {
  const [error] = await writeQuantizedFolder(base, join(scratch, "clipped"), {
    format: "int8",
    blockSize,
    percentile: 90,
  });
  expect(error?.relativeError).toBeGreaterThan(0.01);
});

describe("refusals", () => {
  const settings = { format: "nf4", blockSize } as const;
  const out = (): string => join(scratch, "refused");

  test.each([
    [{ ...settings, blockSize: 48 }, "block size 48 does not fit: use a power of two from 16 to 4096"],
    [{ ...settings, blockSize: 8 }, "block size 8 does not fit"],
    [
      { format: "int4" as const, blockSize: 64 },
      /block size 64 does not fit .*q_proj, whose rows have 16 elements: use at most 16/,
    ],
    [
      { format: "int8" as const, blockSize, doubleQuantization: true },
      "scales of int8 are not quantized a second time: double quantization is for nf4 and fp4",
    ],
  ])("settings that do not fit: %j", async (options, message) => {
    await expect(writeQuantizedFolder(base, out(), options)).rejects.toThrow(message);
  });

  test("a folder that is quantized already", async () => {
    const message = /is quantized already \(nf4\): to get int8, quantize the model that it was made from/;
    const directory = join(scratch, "nf4");
    await expect(writeQuantizedFolder(directory, out(), { format: "int8", blockSize })).rejects.toThrow(message);
    await expect(openModelFolder(directory, { quantize: { format: "int8", blockSize } })).rejects.toThrow(message);
  });

  test("an output folder with files in it, or the model itself", async () => {
    await expect(writeQuantizedFolder(base, join(scratch, "nf4"), settings)).rejects.toThrow(
      "has files in it: name a new one",
    );
    await expect(writeQuantizedFolder(base, base, settings)).rejects.toThrow(
      "is the model itself: name another folder",
    );
  });

  test("a folder that is not quantized where the bytes' weights are asked for", async () => {
    await expect(writeDequantizedFolder(base, out())).rejects.toThrow("holds no quantized weights");
  });

  test("full training of quantized weights", async () => {
    await expect(EngineTrainer.open({ ...training, mode: "full", directory: join(scratch, "nf4") })).rejects.toThrow(
      'has quantized weights, which cannot be changed in small steps: use mode "lora", or the model\'s own weights',
    );
  });

  /** A copy of a quantized folder with another config or with a tensor changed. */
  async function spoiled(
    from: string,
    change: { config?: object; tensor?: RegExp; to?: Partial<TensorSource> | null },
  ): Promise<string> {
    const directory = await mkdtemp(join(scratch, "spoiled-"));
    await cp(join(scratch, from), directory, { recursive: true });
    const config = JSON.parse(await readFile(join(directory, "config.json"), "utf8")) as Record<string, object>;
    await writeFile(
      join(directory, "config.json"),
      JSON.stringify({ ...config, quantization_config: { ...config["quantization_config"], ...change.config } }),
    );
    const header = await readSafetensorsHeader(join(scratch, from, "model.safetensors"));
    const tensors = [...header.tensors.values()].flatMap((entry): TensorSource[] => {
      const source = { ...entry, read: async () => await readTensorBytes(header, entry.name) };
      if (!change.tensor?.test(entry.name)) return [source];
      return change.to === null ? [] : [{ ...source, ...change.to }];
    });
    await writeTensorsInTurn(join(directory, "model.safetensors"), tensors);
    return directory;
  }

  const first = "layers\\.0\\.self_attn\\.q_proj\\.weight";
  test.each([
    [
      "nf4",
      { config: { quant_method: "gptq" } },
      /says quantization "gptq", which Drydock does not read; it reads bitsandbytes of 4 bits/,
    ],
    [
      "nf4",
      { config: { load_in_4bit: false, load_in_8bit: true } },
      /says quantization "bitsandbytes, load_in_8bit", which Drydock does not read/,
    ],
    ["int8", { config: { format: "int3" } }, 'quantization "int3" is not known: use one of nf4, fp4, int4, int8'],
    ["int8", { config: { block_size: 24 } }, "block size 24 does not fit"],
    ["int8", { config: { block_size: "many" } }, /quantization_config.block_size: .*expected number/],
    [
      "nf4",
      { tensor: new RegExp(`${first}$`), to: { shape: [255, 1], read: () => Promise.resolve(new Uint8Array(255)) } },
      /q_proj.weight of .* cannot be used: it is U8 \[255, 1\], and its layer needs U8 \[256\]/,
    ],
    [
      "nf4",
      { tensor: new RegExp(`${first}\\.absmax`), to: null },
      /lacks .*q_proj.weight.absmax, without which the quantized/,
    ],
    [
      "nf4",
      { tensor: new RegExp(`${first}\\.quant_map`), to: { read: () => Promise.resolve(new Float32Array(16)) } },
      /quant_map of .* cannot be used: its 16 values are not those of nf4/,
    ],
    [
      "nf4",
      {
        tensor: new RegExp(`${first}\\.quant_state`),
        to: { shape: [2], read: () => Promise.resolve(new TextEncoder().encode("{]")) },
      },
      /quant_state.bitsandbytes__nf4 of .* cannot be used: it holds no state of bitsandbytes/,
    ],
    [
      "int8",
      { tensor: new RegExp(`${first}\\.scales`), to: { shape: [8, 4] } },
      /scales of .* cannot be used: it is F32 \[8, 4\], and its layer needs F32 \[32, 1\]/,
    ],
  ])("a broken folder of %s: %j", async (from, change, message) => {
    await expect(openModelFolder(await spoiled(from, change))).rejects.toThrow(message);
  });

  test("packed bytes where the model wants a plain weight", async () => {
    const directory = await spoiled("nf4", { tensor: /quant_state/, to: null });
    await expect(openModelFolder(directory)).rejects.toThrow(
      "says that its weights are quantized, but none of its linear layers is",
    );
  });
});

test("all other weights keep their values", async () => {
  const [before, after] = await Promise.all(
    [base, join(scratch, "int8")].map(async (path) => await openModelFolder(path)),
  );
  const names = ["model.language_model.embed_tokens.weight", "model.visual.blocks.0.attn.qkv.weight"];
  expect(await readWeights(after!, names)).toEqual(await readWeights(before!, names));
});
