import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RetryingStorage, S3Storage } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { readLatestCheckpoint } from "../src/checkpoint/read-checkpoint.ts";
import type { RunFolder } from "../src/checkpoint/run-folder.ts";
import { writeCheckpoint } from "../src/checkpoint/write-checkpoint.ts";

let root: string;
let server: Versitygw;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-damaged-"));
  server = await Versitygw.start();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

/** Two checkpoints on a disk of storage that then turns over a bit in a file of the second. */
async function damaged(runId: string, name: string): Promise<RunFolder> {
  const storage = new RetryingStorage(new S3Storage(server.options()), { budgetMs: 10_000, firstDelayMs: 1 });
  const folder: RunFolder = { storage, prefix: `runs/${runId}/`, runId, epoch: 1 };
  for (const step of [1, 2]) {
    const path = join(root, "weights");
    await writeFile(path, `weights of step ${step}`);
    const files = [{ name: "adapter_model.safetensors", path }];
    const dataCursor = { epoch: 0, index: step, order: "sequential", seed: 1, rows: 10 } as const;
    const content = { step, mode: "lora", worldSize: 1, dataCursor, seed: 1, files } as const;
    await writeCheckpoint(folder, content, new Date());
  }
  const stored = join(server.folder, "bucket", "runs", runId, "checkpoints", "step-00000002", name);
  const bytes = await readFile(stored);
  bytes[3]! ^= 1;
  await writeFile(stored, bytes);
  return folder;
}

test.each([
  [
    "adapter_model.safetensors",
    /file adapter_model\.safetensors is damaged .*; the checkpoint before it is used instead$/,
  ],
  ["manifest.json", /manifest\.json is damaged; the checkpoint before it is used instead$/],
])("a checkpoint whose %s is damaged in storage is passed over, not waited for", async (name, message) => {
  const warnings: string[] = [];
  const folder = await damaged(name.replaceAll(/\W|_/g, "-"), name);
  const found = await readLatestCheckpoint(folder, join(root, "resume"), (warning) => warnings.push(warning));
  expect(found?.manifest.step).toBe(1);
  expect(await readFile(join(root, "resume", "adapter_model.safetensors"), "utf8")).toBe("weights of step 1");
  expect(warnings).toEqual([expect.stringMatching(message)]);
});
