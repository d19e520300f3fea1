import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FolderStorage, sha256 } from "@drydock/kit";
import { expect, onTestFinished, test } from "vitest";
import { RegistryApi } from "../registry-api.ts";
import { promoteVerified } from "./promote-model.ts";

const digest = sha256("manifest");

/** Storage with a model of one file, and an api that has its manifest. */
async function registered(
  content: string,
): Promise<{ storage: FolderStorage; registry: RegistryApi; calls: unknown[] }> {
  const folder = await mkdtemp(join(tmpdir(), "drydock-promote-"));
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
  const storage = new FolderStorage(folder);
  await storage.put("models/weld/3/adapter_model.safetensors", content);
  const calls: unknown[] = [];
  const registry = new RegistryApi({
    call: async (method, path, body) => {
      calls.push([method, path, body]);
      if (method === "POST") return { name: "weld", version: 3, previous: 2, isChanged: true, isReplay: false };
      const file = { name: "adapter_model.safetensors", sizeBytes: 7, sha256: sha256("weights") };
      return { manifestDigest: digest, keyId: "k", files: [file], problems: [] };
    },
  });
  return { storage, registry, calls };
}

const order = { name: "weld", version: 3, key: "prun_1/promote", actor: "pipeline", message: "The gate passed." };

test("a version whose files are as signed is promoted, with what was verified", async () => {
  const parts = await registered("weights");
  expect(await promoteVerified(parts, order)).toMatchObject({ version: 3, previous: 2 });
  expect(parts.calls[1]).toMatchObject([
    "POST",
    "/models/weld/versions/3/promote",
    { key: "prun_1/promote", verification: { isSound: true, manifestDigest: digest, files: 1, sizeBytes: 7 } },
  ]);
});

test("a damaged file is named, and nothing is promoted", async () => {
  const parts = await registered("weightz");
  await expect(promoteVerified(parts, order)).rejects.toMatchObject({
    code: "model_damaged",
    isRetryable: false,
    message: `weld@3 cannot go to production: adapter_model.safetensors of weld@3 is damaged: its SHA-256 is ${sha256("weightz").slice(0, 16)}…, and should be ${sha256("weights").slice(0, 16)}…`,
  });
  expect(parts.calls).toHaveLength(1);
});
