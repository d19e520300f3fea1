import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { loadModel } from "../models/load-model.ts";
import { createRandomModel } from "../models/random-model.ts";
import { EngineTrainer } from "../training/trainer.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import { openModelFolder } from "./open-model-folder.ts";
import { nearestName } from "./nearest-name.ts";
import { readFloatTensors } from "./read-floats.ts";
import { readSafetensorsHeader, writeSafetensors, type WritableTensor } from "./safetensors.ts";

const config = {
  model_type: "qwen3_vl",
  image_token_id: 3,
  tie_word_embeddings: true,
  text_config: {
    vocab_size: 50,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    rope_parameters: { rope_theta: 10000, mrope_section: [2, 1, 1] },
  },
  vision_config: {
    depth: 1,
    hidden_size: 16,
    intermediate_size: 24,
    num_heads: 2,
    patch_size: 4,
    out_hidden_size: 16,
    num_position_embeddings: 16,
  },
};

let whole: string;
let tensors: WritableTensor[];
let directory: string;
const embedding = "model.language_model.embed_tokens.weight";
const gate = "model.language_model.layers.0.mlp.gate_proj.weight";

beforeAll(async () => {
  whole = await mkdtemp(join(tmpdir(), "drydock-weights-"));
  await createRandomModel(config, whole, 1);
  const header = await readSafetensorsHeader(join(whole, "model.safetensors"));
  tensors = [...(await readFloatTensors(header, header.tensors.keys()))].map(([name, data]) => ({
    name,
    data,
    shape: header.tensors.get(name)?.shape ?? [],
  }));
});
beforeEach(async () => {
  directory = await mkdtemp(join(whole, "case-"));
  await copyFile(join(whole, "config.json"), join(directory, "config.json"));
});
afterAll(async () => await rm(whole, { recursive: true, force: true }));

const write = async (changed: readonly WritableTensor[], file = "model.safetensors"): Promise<void> =>
  await writeSafetensors(join(directory, file), changed);
const without = (name: string): WritableTensor[] => tensors.filter((tensor) => tensor.name !== name);
const tensor = (name: string): WritableTensor => tensors.find((each) => each.name === name) as WritableTensor;

/** The message with which a folder of these tensors is refused. */
async function refusal(code: string, changed: readonly WritableTensor[]): Promise<string> {
  await write(changed);
  const error: unknown = await openModelFolder(directory).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code });
  return (error as Error).message.replace(directory, "DIR");
}

test("a missing weight is named, with the tensor that may have been meant", async () => {
  const renamed = { ...tensor(gate), name: gate.replace("gate_proj", "gate_prj") };
  expect(await refusal("missing_weight", [...without(gate), renamed])).toBe(
    `folder DIR lacks weights that its config.json asks for: ${gate} (nearest in its files: ${renamed.name}); ` +
      "fetch the files again, or see whether config.json belongs to them",
  );
});

test("of many missing weights the first are named", async () => {
  expect(await refusal("missing_weight", tensors.slice(0, 3))).toMatch(/: \S+ \(.*\), .* and \d+ more; fetch/);
});

test("a tensor that the model does not have is named, with the one that it resembles", async () => {
  const extra = { ...tensor(gate), name: gate.replace("layers.0", "layers.7") };
  expect(await refusal("unknown_weight", [...tensors, extra])).toBe(
    `folder DIR holds tensors that the qwen3_vl model of its config.json does not have: ${extra.name} ` +
      `(nearest of the model: ${gate}); see whether config.json belongs to these files, or remove the tensors`,
  );
});

test("a weight of another shape is named with both shapes", async () => {
  const wrong = { ...tensor(gate), shape: [12, 32] };
  expect(await refusal("bad_weight_shape", [...without(gate), wrong])).toBe(
    `weight ${gate} of DIR is [12, 32], but config.json asks for [24, 16]`,
  );
});

test("a weight of integers is refused", async () => {
  const wrong = { ...tensor(gate), data: new BigInt64Array(24 * 16) };
  expect(await refusal("bad_weight_type", [...without(gate), wrong])).toBe(
    `weight ${gate} of DIR is stored as I64; F32, BF16, F16 and F64 are understood`,
  );
});

test("tied weights may be stored twice when they are equal", async () => {
  await write([...tensors, { ...tensor(embedding), name: "lm_head.weight" }]);
  await expect(openModelFolder(directory)).resolves.toHaveProperty("model.type", "qwen3_vl");
});

test("tied weights that differ are refused", async () => {
  const data = (tensor(embedding).data as Float32Array).with(-1, 1);
  expect(
    await refusal("tied_weights_differ", [...tensors, { ...tensor(embedding), name: "lm_head.weight", data }]),
  ).toBe(
    `config.json of DIR ties the output head to the embeddings, but lm_head.weight and ${embedding} hold different values; ` +
      'set "tie_word_embeddings" to false to use both, or remove the one that is wrong',
  );
});

test("an index whose files are missing says which", async () => {
  await write(tensors, "model-00001-of-00002.safetensors");
  const weight_map = { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" };
  await writeFile(join(directory, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  await expect(openModelFolder(directory)).rejects.toMatchObject({
    code: "missing_shard",
    message: `folder ${directory} lacks 1 of the 2 files that model.safetensors.index.json names: model-00002-of-00002.safetensors; fetch them into the folder`,
  });
});

test("an index without a map of files is refused", async () => {
  await writeFile(join(directory, "model.safetensors.index.json"), "{}");
  await expect(openModelFolder(directory)).rejects.toThrow(/model.safetensors.index.json has no "weight_map"/);
});

test("a tensor that lies in two files is refused", async () => {
  await write(tensors, "a.safetensors");
  await write([tensor(gate)], "b.safetensors");
  const weight_map = { x: "a.safetensors", y: "b.safetensors" };
  await writeFile(join(directory, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  await expect(openModelFolder(directory)).rejects.toMatchObject({
    code: "duplicate_weight",
    message: expect.stringMatching(`^tensor ${gate} lies in both .*a.safetensors and .*b.safetensors;`) as string,
  });
});

test("an architecture that Drydock does not run is refused with those that it runs", async () => {
  await writeFile(join(directory, "config.json"), JSON.stringify({ model_type: "gpt2" }));
  await expect(openModelFolder(directory)).rejects.toMatchObject({
    code: "unsupported_architecture",
    message: expect.stringMatching(
      /^config.json says model_type "gpt2", which Drydock does not run; it runs .*qwen3_vl/,
    ) as string,
  });
});

const batch: ModelBatch = {
  batchSize: 1,
  sequenceLength: 4,
  inputIds: BigInt64Array.of(5n, 6n, 7n, 8n),
  attentionMask: new Uint8Array(4).fill(1),
  positionIds: Int32Array.of(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3),
  labels: Int32Array.of(-100, 7, 8, -100),
  pixelPatches: new Float32Array(0),
  pictures: [],
  imageRows: new Int32Array(0),
};
const named = {
  code: "weight_not_finite",
  message: expect.stringContaining(`weight ${gate} of `) as string,
};

async function writeWithNaN(): Promise<void> {
  const data = Float32Array.from(tensor(gate).data as Float32Array);
  data[7] = Number.NaN;
  await write([...without(gate), { ...tensor(gate), data }]);
}

test("a weight with NaN is named at the first answer that is none", async () => {
  await writeWithNaN();
  const { generator } = await loadModel({ directory, threads: 1 });
  await expect(generator.answers(batch, { maxNewTokens: 2, stopTokenIds: [] })).rejects.toMatchObject(named);
  await generator.close();
});

const settings = {
  lora: { rank: 2, alpha: 4, dropout: 0, targets: "all-linear" },
  optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
  schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 10 },
  seed: 1,
  threads: 1,
} as const;

test("a weight with NaN is named before full training, and at the first step of an adapter", async () => {
  await writeWithNaN();
  await expect(EngineTrainer.open({ ...settings, directory, mode: "full" })).rejects.toMatchObject(named);
  const trainer = await EngineTrainer.open({ ...settings, directory, mode: "lora" });
  await expect(trainer.step([batch])).rejects.toMatchObject(named);
  await trainer.close();
});

test("a model saved after training leaves out a tied head that was stored twice", async () => {
  await write([...tensors, { ...tensor(embedding), name: "lm_head.weight" }]);
  const trainer = await EngineTrainer.open({ ...settings, directory, mode: "full" });
  await trainer.step([batch]);
  const saved = join(whole, "saved");
  await trainer.save(saved);
  await trainer.close();
  const header = await readSafetensorsHeader(join(saved, "model.safetensors"));
  expect([...header.tensors.keys()].sort()).toEqual(tensors.map(({ name }) => name).sort());
});

test("the nearest name is the one with the fewest changed letters, if any is near", () => {
  expect(nearestName("model.layer.3", ["model.layers.3", "model.layers.4", "x"])).toBe("model.layers.3");
  expect(nearestName("entirely.else", ["q", "model.layers.3"])).toBeNull();
});
