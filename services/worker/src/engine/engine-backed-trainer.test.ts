import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunSpec, WorkerConfig, type DataRecord } from "@drydock/spec";
import { createTinyData, createTinyModel } from "../../test/tiny-model.ts";
import { localPathOf, readMessagesFile } from "../rows/read-messages.ts";
import type { Trainer } from "../training/trainer.ts";
import { engineDoors } from "./engine-doors.ts";

let root: string;
let records: DataRecord[];
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-engine-"));
  await createTinyModel(join(root, "model"));
  records = await readMessagesFile(await createTinyData(join(root, "data"), 8), {
    task: "vqa",
    scratchDirectory: root,
  });
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

function configOf(mode: "lora" | "full", microBatchSize: number): WorkerConfig {
  return WorkerConfig.parse({
    kind: "train",
    runId: "r1",
    spec: RunSpec.parse({
      name: "tiny",
      model: "tiny-base",
      mode,
      dataset: "tiny@1",
      task: "vqa",
      training: {
        globalBatchSize: 4,
        learningRate: 0.01,
        schedule: "constant",
        lora: { rank: 4, alpha: 8, dropout: 0.1 },
      },
    }),
    layout: {
      gpus: 1,
      pods: 1,
      gpusPerPod: 1,
      dataParallel: 1,
      pipelineStages: 1,
      sharding: "none",
      microBatchSize,
      accumulationSteps: 1,
      recomputeActivations: false,
    },
    totalSteps: 20,
    modelDirectory: join(root, "model"),
    recordsKey: "",
    systemPrompt: "Be brief.",
    planDigest: "p",
    datasetDigest: null,
    modelName: "tiny",
    modelVersion: 1,
    threads: 2,
  });
}

async function open(mode: "lora" | "full" = "lora", microBatchSize = 4): Promise<Trainer> {
  return await engineDoors.openTrainer(configOf(mode, microBatchSize), localPathOf, null);
}

async function lossesOf(trainer: Trainer, steps: number): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++)
    losses.push((await trainer.step(records.slice(4 * (step % 2), 4 * (step % 2) + 4), step)).loss);
  return losses;
}

test("the size of the micro-batch does not change what is learned, dropout included", async () => {
  const [whole, halves, singles] = await Promise.all(
    [4, 2, 1].map(async (size) => await lossesOf(await open("lora", size), 6)),
  );
  halves?.forEach((loss, step) => expect(loss).toBeCloseTo(whole?.[step] ?? 0, 4));
  singles?.forEach((loss, step) => expect(loss).toBeCloseTo(whole?.[step] ?? 0, 4));
  expect(whole?.[5]).toBeLessThan(whole?.[0] ?? 0);
});

test.each(["lora", "full"] as const)(
  "%s: after save and restore the next steps are the same bit for bit",
  async (mode) => {
    const directory = await mkdtemp(join(root, "checkpoint-"));
    const first = await open(mode);
    await lossesOf(first, 3);
    const names = await first.save(directory);
    expect(names).toContain("optimizer-0.safetensors");
    const second = await open(mode);
    await second.restore(directory);
    expect(await lossesOf(second, 3)).toEqual(await lossesOf(first, 3));
    await first.close();
    await second.close();
  },
);

test.each(["lora", "full"] as const)(
  "%s: begun with the weights of a checkpoint, a run has them bit for bit, and an optimizer that has seen nothing",
  async (mode) => {
    const saved = async (trainer: Trainer): Promise<[string, Buffer[]]> => {
      const directory = await mkdtemp(join(root, "checkpoint-"));
      const [optimizer, weights] = [
        ["optimizer-0.safetensors"],
        [mode === "lora" ? "adapter_model.safetensors" : "model-00001-of-00001.safetensors"],
      ];
      await trainer.save(directory);
      return [
        directory,
        await Promise.all([...weights, ...optimizer].map(async (name) => await readFile(join(directory, name)))),
      ];
    };
    const fresh = await open(mode);
    const [, [, nothingSeen]] = await saved(fresh);
    const first = await open(mode);
    await lossesOf(first, 4);
    const [directory, [weights]] = await saved(first);
    await rm(join(directory, "optimizer-0.safetensors"));
    const second = await open(mode);
    await second.startFrom(directory);
    const [, begun] = await saved(second);
    expect(begun[0]).toEqual(weights);
    expect(begun[1]).toEqual(nothingSeen);
    for (const trainer of [fresh, first, second]) await trainer.close();
  },
);

test("a full checkpoint has the shards and the index that transformers reads", async () => {
  const directory = await mkdtemp(join(root, "checkpoint-"));
  const trainer = await open("full");
  await trainer.save(directory);
  const names = await readdir(directory);
  expect(names).toEqual(
    expect.arrayContaining([
      "config.json",
      "model-00001-of-00001.safetensors",
      "model.safetensors.index.json",
      "optimizer-0.safetensors",
    ]),
  );
  const index = JSON.parse(await readFile(join(directory, "model.safetensors.index.json"), "utf8")) as {
    weight_map: Record<string, string>;
  };
  expect(index.weight_map["model.language_model.embed_tokens.weight"]).toBe("model-00001-of-00001.safetensors");
  await trainer.close();
});

test("a published adapter names its base; a published full model brings tokenizer and template", async () => {
  const [adapter, full] = [await mkdtemp(join(root, "model-")), await mkdtemp(join(root, "model-"))];
  expect(await (await open("lora")).publish(adapter)).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  expect(JSON.parse(await readFile(join(adapter, "adapter_config.json"), "utf8"))).toMatchObject({
    base_model_name_or_path: "tiny-base",
    r: 4,
    lora_alpha: 8,
  });
  expect(await (await open("full")).publish(full)).toEqual([
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
});

test("training goes on from a PEFT adapter", async () => {
  const adapter = await mkdtemp(join(root, "adapter-"));
  const first = await open();
  await lossesOf(first, 5);
  await first.publish(adapter);
  const second = await engineDoors.openTrainer(
    { ...configOf("lora", 4), adapterDirectory: adapter },
    localPathOf,
    null,
  );
  const questions = records.map((record) => ({ record }));
  expect(await second.answer(questions, { maxNewTokens: 4 })).toEqual(
    await first.answer(questions, { maxNewTokens: 4 }),
  );
});

test.each([
  [
    "another rank",
    (config: WorkerConfig) => (config.spec.training.lora.rank = 2),
    "its rank is 4, training.lora.rank is 2: make them equal",
  ],
  [
    "another alpha",
    (config: WorkerConfig) => (config.spec.training.lora.alpha = 2),
    "its alpha is 8, training.lora.alpha is 2: make them equal",
  ],
  [
    "other targets",
    (config: WorkerConfig) => (config.spec.training.lora.targets = ["q_proj"]),
    "which training.lora.targets does not name",
  ],
  ["full mode", (config: WorkerConfig) => (config.spec.mode = "full"), 'use mode "lora"'],
])("an adapter is no start for %s", async (_case, change, message) => {
  const adapter = await mkdtemp(join(root, "adapter-"));
  await (await open()).publish(adapter);
  const config = { ...configOf("lora", 4), adapterDirectory: adapter };
  change(config);
  await expect(engineDoors.openTrainer(config, localPathOf, null)).rejects.toThrow(message);
});

test("a checkpoint of another LoRA rank is refused", async () => {
  const directory = await mkdtemp(join(root, "checkpoint-"));
  await (await open("lora")).save(directory);
  const config = configOf("lora", 4);
  config.spec.training.lora.rank = 2;
  const other = await engineDoors.openTrainer(config, localPathOf, null);
  await expect(other.restore(directory)).rejects.toThrow("was the run spec changed?");
});

test("answers are the same whatever the batch they were asked in", async () => {
  const trainer = await open();
  await lossesOf(trainer, 6);
  const questions = records.slice(0, 4).map((record) => ({ record }));
  const together = await trainer.answer(questions, { maxNewTokens: 6 });
  const alone: string[] = [];
  for (const question of questions) alone.push(...(await trainer.answer([question], { maxNewTokens: 6 })));
  expect(together).toEqual(alone);
});

test("rows that do not fit the context window are found before any step, questions with room for their answer", async () => {
  const trainer = await open();
  await trainer.check(records, records, { maxNewTokens: 64 });
  const [record] = records as [DataRecord];
  const wordy = {
    ...record,
    messages: [
      { role: "user" as const, content: `<image>${"so ".repeat(220)}` },
      { role: "assistant" as const, content: "red" },
    ],
  };
  const answered = { maxNewTokens: 8 };
  await trainer.check([wordy], [], answered);
  await expect(trainer.check([], [wordy], { maxNewTokens: 400 })).rejects.toThrow(
    /data\.jsonl, line 1\): .* and 400 for the answer do not fit the context window of 512/,
  );
  const long = {
    ...wordy,
    messages: [
      { role: "user" as const, content: `<image>${"so ".repeat(800)}` },
      { role: "assistant" as const, content: "red" },
    ],
  };
  await expect(trainer.check([record, long], [], answered)).rejects.toMatchObject({ code: "bad_data" });
});

test.each([
  [
    "a prompt longer than the context window",
    async (record: DataRecord) => ({
      ...record,
      rowId: "long",
      messages: [
        { role: "user" as const, content: `<image>${"so ".repeat(800)}` },
        { role: "assistant" as const, content: "red" },
      ],
    }),
    /do not fit the context window of 512; shorten the text or lower image\.maxPixels/,
  ],
  [
    "a truncated picture",
    async (record: DataRecord) => {
      const path = join(root, "cut.png");
      await writeFile(
        path,
        (await readFile(await localPathOf(record.images[0] as DataRecord["images"][number]))).subarray(0, 60),
      );
      return {
        ...record,
        rowId: "cut",
        images: [{ ...(record.images[0] as DataRecord["images"][number]), key: path, fileName: "cut.png" }],
      };
    },
    /picture cut\.png cannot be decoded/,
  ],
  [
    "a row with fewer pictures than marks",
    async (record: DataRecord) => ({ ...record, rowId: "none", images: [] }),
    /the conversation has 1 picture marks but 0 pictures/,
  ],
])("%s is bad data, named by file and line", async (_case, change, message) => {
  const trainer = await open();
  const bad = await change(records[0] as DataRecord);
  const failure = trainer.step([bad], 1);
  await expect(failure).rejects.toMatchObject({ code: "bad_data", message: expect.stringMatching(message) });
  await expect(failure).rejects.toThrow(/data\.jsonl, line 1/);
});
