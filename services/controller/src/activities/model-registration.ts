import { createHash } from "node:crypto";
import type { ObjectStorage } from "@drydock/kit";
import { ModelCard, type ModelRegistration } from "@drydock/spec";

/** What the api is told of a finished model: its card, and every file with size and digest. */
export async function registrationOf(storage: ObjectStorage, modelKey: string): Promise<ModelRegistration> {
  const card = ModelCard.parse(JSON.parse(Buffer.from(await storage.get(`${modelKey}/drydock.json`)).toString()));
  const files: { name: string; sizeBytes: number; sha256: string }[] = [];
  for await (const { key, sizeBytes } of storage.list(`${modelKey}/`)) {
    files.push({ name: key.slice(modelKey.length + 1), sizeBytes, sha256: await digestOfObject(storage, key) });
  }
  const { name, version, kind, task, systemPrompt, lineage } = card;
  return { name, version, kind, task, systemPrompt, lineage, files };
}

async function digestOfObject(storage: ObjectStorage, key: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of await storage.read(key)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}
