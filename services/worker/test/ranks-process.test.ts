import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FolderStorage, sha256 } from "@drydock/kit";
import { Directive, Phase, type ReportRequest } from "@drydock/proto";
import { CheckpointManifest, RunSpec } from "@drydock/spec";
import { readMessagesFile } from "../src/rows/read-messages.ts";
import { TestController } from "./controller.ts";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");
const totalSteps = 30;

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-ranks-process-"));
  await createTinyModel(join(root, "model"));
  const path = await createTinyData(join(root, "data"), 12);
  const storage = new FolderStorage(join(root, "store"));
  const lines: string[] = [];
  const records = await readMessagesFile(path, { task: "vqa", scratchDirectory: root });
  for (const [row, record] of records.entries()) {
    const images = record.images.map((image) => ({ ...image, key: `datasets/d/images/${image.sha256}.png` }));
    for (const [place, image] of images.entries())
      await storage.putFile(image.key, join("/", record.images[place]?.key ?? ""));
    lines.push(`${JSON.stringify({ ...record, images, split: row < 9 ? "train" : "validation" })}\n`);
  }
  await storage.put("datasets/d/records.jsonl", lines.join(""));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

type Mode = "lora" | "full";

function configOf(runId: string, mode: Mode, worldSize: number): object {
  return {
    kind: "train",
    runId,
    spec: RunSpec.parse({
      name: "colours",
      model: "tiny",
      mode,
      dataset: "colours@1",
      task: "vqa",
      training: {
        globalBatchSize: 4,
        maxSteps: totalSteps,
        learningRate: 0.01,
        lora: { rank: 4, alpha: 8, dropout: 0.1 },
      },
      checkpoint: { everySteps: 5 },
      evaluation: { maxNewTokens: 4, metrics: ["exact-match"], everySteps: 10 },
    }),
    layout: {
      gpus: worldSize,
      pods: worldSize,
      gpusPerPod: 1,
      dataParallel: worldSize,
      pipelineStages: 1,
      sharding: mode === "full" && worldSize > 1 ? "optimizer" : "none",
      microBatchSize: 2,
      accumulationSteps: 1,
      recomputeActivations: false,
    },
    totalSteps,
    modelDirectory: join(root, "model"),
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "",
    planDigest: "p",
    datasetDigest: null,
    modelName: runId,
    modelVersion: 1,
    threads: 1,
  };
}

/** An attempt: a controller and its ranks. */
class Attempt {
  readonly controller: TestController;
  readonly ranks: readonly ChildProcess[];

  constructor(controller: TestController, ranks: readonly ChildProcess[]) {
    this.controller = controller;
    this.ranks = ranks;
  }

  static async start(
    runId: string,
    mode: Mode,
    epoch: number,
    worldSize: number,
    environment: Readonly<Record<string, string>> = {},
  ): Promise<Attempt> {
    const controller = await TestController.start(configOf(runId, mode, worldSize));
    controller.worldSize = worldSize;
    const ranks = Array.from({ length: worldSize }, (_, rank) =>
      spawn(process.execPath, [main, "rank"], {
        stdio: ["ignore", "ignore", "inherit"],
        env: {
          ...process.env,
          DRYDOCK_RUN_ID: runId,
          DRYDOCK_EPOCH: String(epoch),
          DRYDOCK_RANK: String(rank),
          DRYDOCK_WORLD_SIZE: String(worldSize),
          DRYDOCK_WORKER_TOKEN: "secret",
          DRYDOCK_CONTROLLER_URL: controller.url,
          STORAGE_URL: pathToFileURL(join(root, "store")).href,
          DRYDOCK_SCRATCH: join(root, "scratch", runId),
          DRYDOCK_LOG_LEVEL: "silent",
          ...environment,
        },
      }),
    );
    return new Attempt(controller, ranks);
  }

  /** Exit codes and signals in the order of the ranks. */
  async ends(): Promise<(number | string | null)[]> {
    const ends = await Promise.all(
      this.ranks.map(async (child) => {
        if (child.exitCode === null && child.signalCode === null) await once(child, "close");
        return child.exitCode ?? child.signalCode;
      }),
    );
    await this.controller.goAway();
    return ends;
  }

  async untilStep(step: number): Promise<void> {
    await this.controller.until((reports) => reports.some(({ steps }) => steps.some((taken) => taken.step >= step)));
  }

  lossesOf(rank: number): number[] {
    return this.controller.reports
      .filter((report) => report.rank === rank)
      .flatMap(({ steps, epoch }) => steps.filter(({ attempt }) => attempt === epoch).map(({ loss }) => loss));
  }

  lastOf(rank: number): ReportRequest | undefined {
    return this.controller.reports.filter((report) => report.rank === rank).at(-1);
  }
}

function checkpoint(runId: string, step: number): string {
  return join(root, "store", "runs", runId, "checkpoints", `step-${String(step).padStart(8, "0")}`);
}

/** SHA-256 of all tensors of a run's last checkpoint and of its model. */
async function digestsOf(runId: string): Promise<Record<string, string>> {
  const digests: Record<string, string> = {};
  for (const directory of [checkpoint(runId, totalSteps), join(root, "store", "models", runId, "1")])
    for (const name of (await readdir(directory)).filter((file) => file.endsWith(".safetensors")))
      digests[name] = sha256(await readFile(join(directory, name)));
  return digests;
}

describe.each(["lora", "full"] as const)("%s on two ranks", { timeout: 120_000 }, (mode) => {
  let expected: Record<string, string>;
  let losses: number[];
  let lossesOfOther: number[];
  beforeAll(async () => {
    const whole = await Attempt.start(`whole-${mode}`, mode, 1, 2);
    await whole.ends();
    expected = await digestsOf(`whole-${mode}`);
    losses = whole.lossesOf(0);
    lossesOfOther = whole.lossesOf(1);
  }, 120_000);

  test("has the loss curve of one rank", async () => {
    const alone = await Attempt.start(`alone-${mode}`, mode, 1, 1);
    expect(await alone.ends()).toEqual([0]);
    expect(alone.lossesOf(0)).toHaveLength(totalSteps);
    expect(lossesOfOther).toEqual(losses);
    alone.lossesOf(0).forEach((loss, step) => expect(Math.abs((losses[step] ?? 0) - loss) / loss).toBeLessThan(1e-5));
  });

  test("checkpoints name the world size; the parts of the optimizer are there", async () => {
    const directory = checkpoint(`whole-${mode}`, totalSteps);
    const manifest = CheckpointManifest.parse(JSON.parse(await readFile(join(directory, "manifest.json"), "utf8")));
    expect(manifest.worldSize).toBe(2);
    const parts = manifest.files.map(({ name }) => name).filter((name) => name.startsWith("optimizer"));
    expect(parts).toEqual(
      mode === "full" ? ["optimizer-0.safetensors", "optimizer-1.safetensors"] : ["optimizer-0.safetensors"],
    );
  });

  test.each([0, 1])(
    "rank %i killed: the other names it; the next attempt ends with byte-identical files",
    async (victim) => {
      const runId = `killed-${mode}-${victim}`;
      const first = await Attempt.start(runId, mode, 1, 2);
      await first.untilStep(12);
      first.ranks[victim]?.kill("SIGKILL");
      const ends = await first.ends();
      expect(ends[victim]).toBe("SIGKILL");
      expect(ends[1 - victim]).toBe(75);
      expect(first.lastOf(1 - victim)?.outcome).toMatchObject({
        reason: "worker-lost",
        message: expect.stringContaining(`rank ${victim} was lost: its connection was`),
      });
      const second = await Attempt.start(runId, mode, 2, 2);
      expect(await second.ends()).toEqual([0, 0]);
      expect(second.lossesOf(0).length).toBeLessThan(totalSteps);
      expect(await digestsOf(runId)).toEqual(expected);
    },
  );

  test("one rank asked to stop: both stop after one checkpoint, and go on byte-identically", async () => {
    const runId = `stopped-${mode}`;
    const first = await Attempt.start(runId, mode, 1, 2);
    await first.untilStep(8);
    first.ranks[1]?.kill("SIGTERM");
    expect(await first.ends()).toEqual([143, 143]);
    expect(first.lossesOf(0)).toEqual(first.lossesOf(1));
    const second = await Attempt.start(runId, mode, 2, 2);
    expect(await second.ends()).toEqual([0, 0]);
    expect(await digestsOf(runId)).toEqual(expected);
  });

  test("a run that goes on with three ranks, then with one, keeps its losses to 1e-5", async () => {
    const runId = `resized-${mode}`;
    const seen: number[] = [];
    for (const [attempt, worldSize] of [2, 3, 1].entries()) {
      const running = await Attempt.start(runId, mode, attempt + 1, worldSize);
      if (attempt < 2) {
        await running.untilStep(10 * (attempt + 1));
        running.controller.directive = Directive.CHECKPOINT_AND_STOP;
      }
      const ends = await running.ends();
      expect(ends).toEqual(ends.map(() => (attempt < 2 ? 143 : 0)));
      seen.push(...running.lossesOf(0));
    }
    expect(seen).toHaveLength(totalSteps);
    seen.forEach((loss, step) => expect(Math.abs(loss - (losses[step] ?? 0)) / loss).toBeLessThan(1e-5));
  });
});

test("a rank that stands still does not wait, the others say that they wait for it", { timeout: 60_000 }, async () => {
  const attempt = await Attempt.start("hung", "lora", 1, 3);
  await attempt.untilStep(3);
  attempt.ranks[2]?.kill("SIGSTOP");
  const waits = (report: ReportRequest): boolean => report.phase === Phase.TRAINING && report.waitsForRanks;
  await attempt.controller.until((reports) =>
    [0, 1].every(
      (rank) =>
        reports
          .filter((report) => report.rank === rank)
          .slice(-3)
          .filter(waits).length === 3,
    ),
  );
  for (const child of attempt.ranks) child.kill("SIGKILL");
  expect(await attempt.ends()).toEqual(["SIGKILL", "SIGKILL", "SIGKILL"]);
});

test("ranks that are to use NCCL where there is none are told what to install", { timeout: 60_000 }, async () => {
  const attempt = await Attempt.start("no-nccl", "lora", 1, 2, { DRYDOCK_COLLECTIVE: "nccl", LD_LIBRARY_PATH: "" });
  const ends = await attempt.ends();
  expect(ends).toContain(64);
  const messages = [0, 1].map((rank) => attempt.lastOf(rank)?.outcome?.message ?? "");
  expect(messages.join("\n")).toMatch(/^libnccl\.so\.2 cannot be loaded \(.*\): install NVIDIA's NCCL/m);
});
