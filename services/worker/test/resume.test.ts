import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256 } from "@drydock/kit";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");
const steps = 60;

let root: string;
let data: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-resume-"));
  await createTinyModel(join(root, "model"));
  data = await createTinyData(join(root, "data"), 12);
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

async function configOf(mode: "lora" | "full"): Promise<string> {
  const path = join(root, `${mode}.json`);
  const training = {
    maxSteps: steps,
    globalBatchSize: 4,
    microBatchSize: 2,
    learningRate: 0.01,
    lora: { rank: 4, alpha: 8, dropout: 0.1 },
  };
  await writeFile(
    path,
    JSON.stringify({ model: { uri: join(root, "model") }, mode, training, checkpoint: { everySteps: 7 } }),
  );
  return path;
}

async function start(mode: "lora" | "full", out: string, ...options: string[]): Promise<ChildProcess> {
  const values = ["train", "--config", await configOf(mode), "--data", data, "--out", out, ...options];
  return spawn(process.execPath, [main, ...values], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, DRYDOCK_LOG_LEVEL: "warn" },
  });
}

async function finish(child: ChildProcess): Promise<number | string> {
  const errors: Buffer[] = [];
  child.stderr?.on("data", (chunk: Buffer) => errors.push(chunk));
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  if (code !== 0 && code !== 143 && signal === null) throw new Error(Buffer.concat(errors).toString());
  return code ?? signal ?? "gone";
}

function stepsOf(out: string): { step: number; loss: number }[] {
  const path = join(out, "steps.jsonl");
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.filter((line) => line.endsWith("}")).map((line) => JSON.parse(line) as { step: number; loss: number });
}

async function untilStep(out: string, step: number, child: ChildProcess): Promise<void> {
  while ((stepsOf(out).at(-1)?.step ?? 0) < step && child.exitCode === null)
    await new Promise((resolve) => setTimeout(resolve, 2));
}

/** SHA-256 of every safetensors file of the last checkpoint and of the finished model. */
async function digestsOf(out: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const folder of [join("checkpoints", `step-${String(steps).padStart(8, "0")}`), "model"]) {
    for (const name of (await readdir(join(out, folder))).filter((file) => file.endsWith(".safetensors"))) {
      digests[join(folder, name)] = sha256(await readFile(join(out, folder, name)));
    }
  }
  return digests;
}

describe.each(["lora", "full"] as const)("%s", (mode) => {
  let expected: Record<string, string>;
  let losses: number[];
  beforeAll(async () => {
    const out = join(root, `${mode}-whole`);
    await finish(await start(mode, out));
    expected = await digestsOf(out);
    losses = stepsOf(out).map(({ loss }) => loss);
  });

  test("a run killed at arbitrary steps and resumed ends with byte-identical files", async () => {
    const out = join(root, `${mode}-killed`);
    for (const killAt of [3, 17, 38]) {
      const child = await start(mode, out, "--resume");
      await untilStep(out, killAt, child);
      child.kill("SIGKILL");
      expect(await finish(child)).toBe("SIGKILL");
    }
    expect(await finish(await start(mode, out, "--resume"))).toBe(0);
    expect(await digestsOf(out)).toEqual(expected);
    expect(stepsOf(out).map(({ loss }) => loss)).toEqual(losses);
  });

  test("a run paused and resumed ends with byte-identical files", async () => {
    const out = join(root, `${mode}-paused`);
    const child = await start(mode, out);
    await untilStep(out, 12, child);
    child.kill("SIGTERM");
    expect(await finish(child)).toBe(143);
    const pausedAt = stepsOf(out).at(-1)?.step ?? 0;
    expect(existsSync(join(out, "checkpoints", `step-${String(pausedAt).padStart(8, "0")}`, "manifest.json"))).toBe(
      true,
    );
    expect(await finish(await start(mode, out, "--resume"))).toBe(0);
    expect(await digestsOf(out)).toEqual(expected);
    expect(stepsOf(out).map(({ step }) => step)).toEqual(Array.from({ length: steps }, (_, index) => index + 1));
  });
});

test("a folder that holds a run is not trained into by mistake", async () => {
  await expect(finish(await start("lora", join(root, "lora-whole")))).rejects.toThrow(
    /^the folder holds a run already, saved up to step 60: add --resume to go on with it, or choose another --out$/m,
  );
});
