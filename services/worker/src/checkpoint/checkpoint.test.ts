import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage, RetryingStorage, UnavailableError, type PutOptions } from "@drydock/kit";
import { StaleEpochError, claimEpoch } from "./fence.ts";
import { readCheckpoint, readLatestCheckpoint } from "./read-checkpoint.ts";
import { expendableSteps, pruneCheckpoints } from "./retention.ts";
import { checkpointKey, checkpointSteps, type RunFolder } from "./run-folder.ts";
import { initialState, readState } from "./training-state.ts";
import { writeCheckpoint, type CheckpointContent, type WrittenCheckpoint } from "./write-checkpoint.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-checkpoint-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const cursor = { epoch: 0, index: 4, order: "shuffled", seed: 42, rows: 10 } as const;

function attempt(epoch: number, of: RunFolder["storage"] = storage): RunFolder {
  return { storage: of, prefix: "runs/r1/", runId: "r1", epoch };
}

async function contentOf(step: number, weights: string): Promise<CheckpointContent> {
  const folder = await mkdtemp(join(root, "scratch-"));
  await writeFile(join(folder, "adapter_model.safetensors"), weights);
  await writeFile(join(folder, "state.json"), JSON.stringify({ ...initialState(cursor), step }));
  const files = ["adapter_model.safetensors", "state.json"].map((name) => ({ name, path: join(folder, name) }));
  return { step, mode: "lora", worldSize: 1, dataCursor: cursor, seed: 42, files };
}

async function write(
  epoch: number,
  step: number,
  weights: string,
  of: RunFolder["storage"] = storage,
): Promise<WrittenCheckpoint> {
  return await writeCheckpoint(attempt(epoch, of), await contentOf(step, weights), new Date(0));
}

async function flipBit(key: string): Promise<void> {
  const content = Buffer.from(await storage.get(key));
  content[3] = content.readUInt8(3) ^ 1;
  await storage.put(key, content);
}

test("what was written is read back with its state, byte by byte", async () => {
  const { key, sizeBytes, manifestSha256 } = await write(1, 150, "weights");
  expect(key).toBe("runs/r1/checkpoints/step-00000150");
  const { manifest, directory } = await readCheckpoint(storage, key, join(root, "copy"));
  expect(await readFile(join(directory, "adapter_model.safetensors"), "utf8")).toBe("weights");
  expect(await readState(key, directory)).toMatchObject({ step: 150, dataCursor: cursor });
  expect(manifest).toMatchObject({
    step: 150,
    epoch: 1,
    worldSize: 1,
    mode: "lora",
    rng: { seed: 42, step: 150 },
    dataCursor: cursor,
  });
  expect(sizeBytes).toBe(manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0));
  expect(manifestSha256).toMatch(/^[0-9a-f]{64}$/);
});

test("a checkpoint with one flipped bit is refused, naming the file, and the one before it is used with a warning", async () => {
  await write(1, 100, "good weights");
  const { key } = await write(1, 150, "weights that rot");
  await flipBit(`${key}/adapter_model.safetensors`);
  await expect(readCheckpoint(storage, key, join(root, "copy"))).rejects.toMatchObject({
    code: "unusable_checkpoint",
    message: expect.stringMatching(
      /^checkpoint runs\/r1\/checkpoints\/step-00000150 cannot be used: file adapter_model\.safetensors is damaged/,
    ),
  });
  expect(await readdir(root)).not.toContain("copy");

  const warnings: string[] = [];
  const used = await readLatestCheckpoint(attempt(2), join(root, "copy"), (message) => warnings.push(message));
  expect(used?.manifest.step).toBe(100);
  expect(warnings).toEqual([
    expect.stringMatching(
      /step-00000150 cannot be used: file adapter_model\.safetensors is damaged .*; the checkpoint before it is used instead$/,
    ),
  ]);
});

test.each([
  ["a file is missing", async (key: string) => await storage.remove(`${key}/state.json`), "file state.json is missing"],
  [
    "a file is longer",
    async (key: string) => await storage.put(`${key}/state.json`, "x".repeat(5000)),
    "file state.json has 5000 bytes",
  ],
  [
    "the manifest is cut",
    async (key: string) => await storage.put(`${key}/manifest.json`, '{"format"'),
    "manifest.json is not JSON",
  ],
  [
    "the manifest is another thing",
    async (key: string) => await storage.put(`${key}/manifest.json`, '{"format":"x"}'),
    "manifest.json is not a checkpoint manifest",
  ],
  [
    "the manifest is missing",
    async (key: string) => await storage.remove(`${key}/manifest.json`),
    "it has no manifest.json",
  ],
])("a checkpoint is refused when %s", async (_case, damage, reason) => {
  const { key } = await write(1, 150, "weights");
  await damage(key);
  await expect(readCheckpoint(storage, key, join(root, "copy"))).rejects.toThrow(reason);
});

test("a manifest whose file name leaves the folder is refused", async () => {
  const { key } = await write(1, 1, "weights");
  const manifest = JSON.parse(Buffer.from(await storage.get(`${key}/manifest.json`)).toString()) as {
    files: { name: string }[];
  };
  manifest.files[0] = { ...manifest.files[0], name: "../../escaped" };
  await storage.put(`${key}/manifest.json`, JSON.stringify(manifest));
  await expect(readCheckpoint(storage, key, join(root, "copy"))).rejects.toThrow("leaves the folder");
});

test("without any checkpoint there is nothing to resume", async () => {
  expect(await readLatestCheckpoint(attempt(1), join(root, "copy"), () => undefined)).toBeNull();
});

test("an attempt older than the newest claims nothing and writes nothing", async () => {
  await claimEpoch(attempt(2), 1);
  await expect(claimEpoch(attempt(1), 1)).rejects.toThrow(
    "attempt 1 was replaced by attempt 2: it may write nothing more",
  );
  await expect(write(1, 150, "stale")).rejects.toBeInstanceOf(StaleEpochError);
  expect(await checkpointSteps(attempt(2))).toEqual([]);
});

test("an attempt never touches the checkpoint of a newer one", async () => {
  const { key } = await write(2, 150, "new");
  await expect(write(1, 150, "old")).rejects.toBeInstanceOf(StaleEpochError);
  expect(Buffer.from(await storage.get(`${key}/adapter_model.safetensors`)).toString()).toBe("new");
});

test("a stale attempt that wakes up between the newer one's file and manifest leaves the newer file", async () => {
  const content = await contentOf(150, "old");
  const newer = await contentOf(150, "new");
  const slow = new (class extends FolderStorage {
    override async putFile(key: string, path: string, options?: PutOptions): Promise<void> {
      if (key.endsWith("adapter_model.safetensors")) {
        await claimEpoch(attempt(2), 1);
        await writeCheckpoint(attempt(2), newer, new Date(0));
      }
      await super.putFile(key, path, options);
    }
  })(join(root, "store"));
  await expect(writeCheckpoint(attempt(1, slow), content, new Date(0))).rejects.toBeInstanceOf(StaleEpochError);
  const { directory } = await readCheckpoint(storage, checkpointKey(attempt(2), 150), join(root, "copy"));
  expect(await readFile(join(directory, "adapter_model.safetensors"), "utf8")).toBe("new");
});

test("what an attempt left half written is replaced by the next", async () => {
  await storage.put("runs/r1/checkpoints/step-00000150/adapter_model.safetensors", "half");
  const { key } = await write(2, 150, "whole");
  expect((await readCheckpoint(storage, key, join(root, "copy"))).manifest.epoch).toBe(2);
});

test("a damaged checkpoint of an older attempt is replaced when its step comes again", async () => {
  const { key } = await write(1, 150, "weights");
  await flipBit(`${key}/adapter_model.safetensors`);
  await write(2, 150, "weights");
  expect((await readCheckpoint(storage, key, join(root, "copy"))).manifest.epoch).toBe(2);
});

test("writing the same checkpoint again changes nothing", async () => {
  const first = await write(1, 150, "weights");
  expect(await write(1, 150, "weights")).toEqual(first);
});

test("a disk that is full for a while is waited for; full for good, no manifest appears", async () => {
  class FullDisk extends FolderStorage {
    refusals = 3;
    override async putFile(key: string, path: string, options?: PutOptions): Promise<void> {
      if (this.refusals-- > 0)
        throw new UnavailableError("storage_full", `the disk is full: object "${key}" was not written`);
      await super.putFile(key, path, options);
    }
  }
  let nowMs = 0;
  const policy = {
    budgetMs: 10_000,
    clock: { now: () => nowMs, sleep: async (delayMs: number) => void (nowMs += delayMs), random: () => 1 },
  };
  const disk = new FullDisk(join(root, "store"));
  await write(1, 100, "weights", new RetryingStorage(disk, policy));
  disk.refusals = Number.POSITIVE_INFINITY;
  await expect(write(1, 150, "weights", new RetryingStorage(disk, policy))).rejects.toMatchObject({
    code: "storage_full",
    isRetryable: true,
  });
  expect(await checkpointSteps(attempt(1))).toEqual([100]);
});

test.each([
  ["the newest two", [50, 100, 150, 200], { currentStep: 200, keepLast: 2, bestStep: null }, [50, 100]],
  ["the newest two and the best", [50, 100, 150, 200], { currentStep: 200, keepLast: 2, bestStep: 50 }, [100]],
  ["all when there are few", [50], { currentStep: 50, keepLast: 3, bestStep: null }, []],
  ["what was saved now, whatever damaged ones follow", [50, 200], { currentStep: 50, keepLast: 1, bestStep: null }, []],
])("retention keeps %s", (_case, steps, retention, gone) => {
  expect(expendableSteps(steps, retention).sort((a, b) => a - b)).toEqual(gone);
});

test("pruned checkpoints leave no file behind, nor do halves that a dead attempt left", async () => {
  for (const step of [1, 3, 4]) await write(1, step, `weights ${step}`);
  await storage.put("runs/r1/checkpoints/step-00000002/adapter_model.safetensors", "half");
  await pruneCheckpoints(attempt(1), { currentStep: 4, keepLast: 1, bestStep: 1 });
  expect(await checkpointSteps(attempt(1))).toEqual([4, 1]);
  for (const gone of ["step-00000002", "step-00000003"]) {
    expect(await Array.fromAsync(storage.list(`runs/r1/checkpoints/${gone}`))).toEqual([]);
  }
});

test("a stale attempt removes nothing", async () => {
  for (const step of [1, 2]) await write(1, step, `weights ${step}`);
  await claimEpoch(attempt(2), 1);
  await expect(pruneCheckpoints(attempt(1), { currentStep: 2, keepLast: 1, bestStep: null })).rejects.toBeInstanceOf(
    StaleEpochError,
  );
  expect(await checkpointSteps(attempt(1))).toEqual([2, 1]);
});

test("a state that is not one is refused", async () => {
  await mkdir(join(root, "copy"));
  await writeFile(join(root, "copy", "state.json"), '{"format":"drydock-training-state/1","step":"x"}');
  await expect(readState("k", join(root, "copy"))).rejects.toThrow(
    "checkpoint k cannot be used: state.json is not a training state",
  );
});
