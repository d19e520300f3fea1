import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readStandaloneConfig } from "./standalone-config.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-config-"));
  await mkdir(join(root, "model"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

async function configOf(text: string): ReturnType<typeof readStandaloneConfig> {
  await writeFile(join(root, "config"), text);
  return await readStandaloneConfig(join(root, "config"));
}

test("YAML and JSON are read, and what makes no sense alone may be left out", async () => {
  const yaml = await configOf(
    "model: { uri: model }\norder: sequential\ntraining: { schedule: constant, learningRate: 0.001 }\n",
  );
  const json = await configOf(
    '{"model":{"uri":"model"},"order":"sequential","training":{"schedule":"constant","learningRate":0.001}}',
  );
  expect(json).toEqual(yaml);
  expect(yaml.modelDirectory).toBe(join(root, "model"));
  expect(yaml.spec).toMatchObject({
    order: "sequential",
    task: "chat",
    mode: "lora",
    training: { schedule: "constant", learningRate: 0.001, weightDecay: 0, maxGradientNorm: 1 },
  });
});

test.each([
  ["an unknown key", "model: { uri: model }\nlearningRate: 1\n", 'Unrecognized key: "learningRate"'],
  [
    "a wrong type",
    "model: { uri: model }\ntraining: { epochs: many }\n",
    "training.epochs: Invalid input: expected number",
  ],
  ["LoRA of rank 0", "model: { uri: model }\ntraining: { lora: { rank: 0 } }\n", "training.lora.rank: Too small"],
  ["a model by name", "model: qwen3-vl-2b\n", 'model is "qwen3-vl-2b", but a worker alone needs a folder'],
  ["a folder that is not there", "model: { uri: nowhere }\n", 'model.uri "nowhere" is not a folder'],
  [
    "a warm start",
    "model: { uri: model }\nwarmStart: { run: run_1 }\n",
    "warmStart names a run of a Drydock, which a worker alone cannot see: give the adapter's folder with --adapter",
  ],
  ["text that is no YAML", "model: {\n", "is neither YAML nor JSON"],
  ["a list", "- 1\n", "must hold a run spec"],
])("%s is refused with its field", async (_case, text, message) => {
  await expect(configOf(text)).rejects.toMatchObject({
    code: "invalid_config",
    message: expect.stringContaining(message),
  });
});

test("a file that is not there is named", async () => {
  await expect(readStandaloneConfig("/nowhere/run.yaml")).rejects.toThrow(
    "config file /nowhere/run.yaml cannot be read: does it exist?",
  );
});
