import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  dequantizeWeight,
  loadModel,
  openModelFolder,
  quantizeWeight,
  readFloatTensors,
  readSafetensorsHeader,
  readTensorBytes,
  unnestScales,
  type QuantizedLayout,
  type SafetensorsHeader,
} from "@drydock/engine";
import { readParityCase } from "../parity/parity-case.ts";

const here = import.meta.dirname;

describe("weights against bitsandbytes 0.50", () => {
  let header: SafetensorsHeader;
  beforeAll(async () => {
    header = await readSafetensorsHeader(join(here, "weights.safetensors"));
  });

  const floats = async (name: string): Promise<Float32Array> =>
    (await readFloatTensors(header, [name])).get(name) as Float32Array;

  const cases = ["whole", "crossing", "short", "many"].flatMap((name) =>
    (["nf4", "fp4"] as const).map((format) => ({ name, format })),
  );
  test.each(cases)("$format of the weight $name: the same bytes, scales and values", async ({ name, format }) => {
    const [out = 0, width = 0] = header.tensors.get(name)?.shape ?? [];
    const layout: QuantizedLayout = { format, blockSize: 64, in: width, out };
    const quantized = quantizeWeight(await floats(name), layout);
    expect(quantized.scales).toEqual(await floats(`${name}/${format}/absmax`));
    const expected = await readTensorBytes(header, `${name}/${format}`);
    expect(Buffer.compare(quantized.packed, expected)).toBe(0);
    const values = await floats(`${name}/${format}/dequantized`);
    expect(largestDifference(dequantizeWeight(quantized, layout), values)).toBeLessThan(1e-6);
  });

  test.each(["whole", "crossing", "short", "many"])("nested scales of the weight %s", async (name) => {
    const part = `${name}/nf4-nested`;
    const [out = 0, width = 0] = header.tensors.get(name)?.shape ?? [];
    const state = JSON.parse(
      new TextDecoder().decode(await readTensorBytes(header, `${part}/quant_state.bitsandbytes__nf4`)),
    ) as { nested_offset: number; nested_blocksize: number };
    const scales = unnestScales({
      codes: await readTensorBytes(header, `${part}/absmax`),
      scales: await floats(`${part}/nested_absmax`),
      table: await floats(`${part}/nested_quant_map`),
      offset: state.nested_offset,
      blockSize: state.nested_blocksize,
    });
    const packed = await readTensorBytes(header, part);
    const layout: QuantizedLayout = { format: "nf4", blockSize: 64, in: width, out };
    expect(
      largestDifference(dequantizeWeight({ packed, scales }, layout), await floats(`${part}/dequantized`)),
    ).toBeLessThan(1e-6);
  });
});

/** Quantized and saved by `transformers`, the image tower included. */
describe.each(["nf4-nested", "fp4"])("a folder of bitsandbytes, %s", (name) => {
  test.each(["one-image", "text"] as const)("logits agree with transformers: %s", async (kind) => {
    const directory = join(here, name, "model");
    const { model, quantized } = await openModelFolder(directory);
    expect([...(quantized?.layers.keys() ?? [])]).toContain("model.visual.blocks.0.attn.qkv");
    const { batch, logits } = await readParityCase(join(here, name), kind, model);
    const { generator } = await loadModel({ directory, threads: 1 });
    const own = await generator.logits(batch);
    await generator.close();
    expect(largestDifference(own, logits)).toBeLessThan(1e-4);
  });
});

function largestDifference(actual: Float32Array, expected: Float32Array): number {
  expect(actual).toHaveLength(expected.length);
  return expected.reduce((most, value, index) => Math.max(most, Math.abs(value - (actual[index] as number))), 0);
}
