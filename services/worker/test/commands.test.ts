import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readFloatTensors, readSafetensorsHeader, readTensorBytes } from "@drydock/engine";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");

let root: string;
let model: string;
let data: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-commands-"));
  model = join(root, "model");
  await createTinyModel(model);
  data = await createTinyData(join(root, "data"), 6);
  const training = {
    maxSteps: 200,
    globalBatchSize: 6,
    learningRate: 0.01,
    schedule: "constant",
    lora: { rank: 8, alpha: 16, dropout: 0 },
  };
  const spec = {
    model: { uri: "model" },
    order: "sequential",
    systemPrompt: "Name the colour.",
    task: "vqa",
    image: { maxPixels: 1024 },
    training,
  };
  await writeFile(join(root, "run.yaml"), JSON.stringify(spec));
  await run("train", "--config", join(root, "run.yaml"), "--data", data, "--out", join(root, "out"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(...values: string[]): Promise<Ended> {
  const env = { ...process.env, DRYDOCK_LOG_LEVEL: "error" };
  return await new Promise((resolve) => {
    execFile(process.execPath, [main, ...values], { env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      resolve({ exitCode: typeof code === "number" ? code : -1, stdout, stderr });
    });
  });
}

test("train writes steps, checkpoints and the model", async () => {
  const lines = (await readFile(join(root, "out", "steps.jsonl"), "utf8")).trimEnd().split("\n");
  expect(lines).toHaveLength(200);
  expect(Object.keys(JSON.parse(lines[0] ?? "") as object)).toEqual([
    "step",
    "loss",
    "learningRate",
    "gradientNorm",
    "tokens",
    "seconds",
  ]);
  expect(JSON.parse(lines[0] ?? "")).toMatchObject({ step: 1, learningRate: 0.01 });
  expect((await readdir(join(root, "out", "checkpoints", "step-00000200"))).sort()).toEqual([
    "adapter_config.json",
    "adapter_model.safetensors",
    "manifest.json",
    "optimizer-0.safetensors",
    "state.json",
  ]);
  expect((await readdir(join(root, "out", "model"))).sort()).toEqual([
    "adapter_config.json",
    "adapter_model.safetensors",
    "drydock.json",
  ]);
});

test("logits holds the conversation's tokens and a row of logits for each, and an adapter changes them", async () => {
  const messages = join(root, "messages.json");
  await writeFile(
    messages,
    JSON.stringify([
      {
        role: "user",
        content: [
          { type: "image", image: "data/0.png" },
          { type: "text", text: "Which colour?" },
        ],
      },
    ]),
  );
  expect(await run("logits", model, "--messages", messages, "--out", join(root, "base.safetensors"))).toMatchObject({
    exitCode: 0,
    stderr: "",
  });
  expect(
    await run(
      "logits",
      model,
      "--messages",
      messages,
      "--out",
      join(root, "tuned.safetensors"),
      "--adapter",
      join(root, "out", "model"),
    ),
  ).toMatchObject({ exitCode: 0 });
  const [base, tuned] = await Promise.all(
    ["base", "tuned"].map(async (name) => await readSafetensorsHeader(join(root, `${name}.safetensors`))),
  );
  const ids = base?.tensors.get("input_ids");
  expect(ids).toMatchObject({ type: "I64" });
  expect(base?.tensors.get("logits")).toMatchObject({ type: "F32", shape: [ids?.shape[0], 320] });
  if (!base || !tuned) throw new Error("unreachable");
  expect(await readTensorBytes(base, "input_ids")).toEqual(await readTensorBytes(tuned, "input_ids"));
  expect((await readFloatTensors(base, ["logits"])).get("logits")).not.toEqual(
    (await readFloatTensors(tuned, ["logits"])).get("logits"),
  );
});

test("predict applies the stored prompt and picture settings, and warns about differing ones", async () => {
  const question = ["--image", join(root, "data", "1.png"), "--prompt", "Which colour?", "--max-new-tokens", "6"];
  const plain = await run("predict", model, "--adapter", join(root, "out", "model"), ...question);
  expect(plain).toMatchObject({ exitCode: 0, stdout: "green\n", stderr: "" });
  const other = await run(
    "predict",
    join(root, "out", "model"),
    ...question,
    "--system-prompt",
    "Be brief.",
    "--max-pixels",
    "2048",
    "--json",
  );
  expect(other.exitCode).toBe(0);
  expect(other.stderr).toContain(
    'warning: The model was trained with the system prompt "Name the colour." and is used with "Be brief."',
  );
  expect(JSON.parse(other.stdout)).toMatchObject({
    image: { width: 32, height: 16 },
    boxes: [],
    warnings: [expect.any(String), expect.stringContaining("maxPixels 2048 differs from the 1024")],
  });
});

test("evaluate prints scores and writes a line per sample", async () => {
  const out = join(root, "results.jsonl");
  const ended = await run(
    "evaluate",
    model,
    "--adapter",
    join(root, "out", "model"),
    "--data",
    data,
    "--metrics",
    "exact-match",
    "--max-new-tokens",
    "6",
    "--out",
    out,
  );
  expect(JSON.parse(ended.stdout)).toMatchObject({ task: "vqa", scores: { "exact-match": 100 }, samples: 6 });
  expect((await readFile(out, "utf8")).trimEnd().split("\n")).toHaveLength(6);
});

test.each([
  ["an empty question", ["--prompt= "], "--prompt is empty: write what to ask about the picture"],
  [
    "an answer of no words",
    ["--prompt=Which?", "--max-new-tokens=0"],
    "--max-new-tokens takes a whole number of at least 1, not 0",
  ],
  [
    "a temperature below 0",
    ["--prompt=Which?", "--temperature=-1"],
    "--temperature takes a number of at least 0, not -1",
  ],
])("predict refuses %s", async (_case, values, message) => {
  const ended = await run("predict", model, "--image", join(root, "data", "1.png"), ...values);
  expect(ended).toMatchObject({ exitCode: 64, stdout: "" });
  expect(ended.stderr).toContain(message);
});

test.each([
  [
    "an unknown command",
    ["teach"],
    64,
    /^unknown command "teach": use one of rank, train, evaluate, logits, quantize, merge, export, predict$/m,
  ],
  ["a missing option", ["predict", "model"], 64, /^model folder .*model does not exist$/m],
  ["an unknown option", ["train", "--konfig", "x"], 64, /^Unknown option '--konfig'/m],
  [
    "a rank outside of a controller",
    ["rank"],
    64,
    /^rank is started by the controller, with these environment variables missing or wrong: DRYDOCK_RUN_ID/m,
  ],
])("%s is told in a sentence, without a stack trace", async (_case, values, exitCode, message) => {
  const ended = await run(...values);
  expect(ended.exitCode).toBe(exitCode);
  expect(ended.stderr).toMatch(message);
  expect(ended.stderr).not.toMatch(/^\s+at /m);
});

test.each([
  ["a broken JSON line", "{oops\n", /data\.jsonl, line 1: not valid JSON/],
  [
    "a picture that is not there",
    `${JSON.stringify({
      messages: [
        { role: "user", content: [{ type: "image", image: "gone.png" }] },
        { role: "assistant", content: "x" },
      ],
    })}\n`,
    /data\.jsonl, line 1: picture "gone\.png" is not there/,
  ],
  ["an empty file", "", /data\.jsonl has no rows/],
])("train refuses %s with exit code 65", async (name, text, message) => {
  const folder = join(root, name.replaceAll(" ", "-"));
  await mkdir(folder);
  await writeFile(join(folder, "data.jsonl"), text);
  const ended = await run(
    "train",
    "--config",
    join(root, "run.yaml"),
    "--data",
    join(folder, "data.jsonl"),
    "--out",
    join(folder, "out"),
  );
  expect(ended).toMatchObject({ exitCode: 65, stderr: expect.stringMatching(message) });
  expect(ended.stderr).not.toMatch(/^\s+at /m);
});

test.each([
  ["a wrong header", Buffer.from("this is not a safetensors file"), /model\.safetensors/],
  [
    "a header that claims more than the file holds",
    Buffer.from([255, 255, 0, 0, 0, 0, 0, 0, 123, 125]),
    /model\.safetensors.*header/,
  ],
])("a base model whose weights have %s is refused by name", async (name, content, message) => {
  const broken = join(root, name.replaceAll(" ", "-"));
  await createTinyModel(broken);
  await writeFile(join(broken, "model.safetensors"), content);
  const ended = await run("predict", broken, "--image", join(root, "data", "1.png"), "--prompt", "Which colour?");
  expect(ended).toMatchObject({ exitCode: 64, stderr: expect.stringMatching(message) });
  expect(ended.stderr).not.toMatch(/^\s+at /m);
});
