import { createHash } from "node:crypto";
import { InvalidError, messageOf, type ObjectStorage } from "@drydock/kit";
import { ModelCard, type ModelRegistration } from "@drydock/spec";

/**
 * What the api is told of a finished model, read from its files in storage.
 *
 * @param codeVersion  of the Drydock that made it
 * @param modelKey  key prefix without a slash at its end, `models/<name>/<version>`
 * @throws InvalidError when the card beside the files cannot be read
 */
export async function registrationOf(
  storage: ObjectStorage,
  modelKey: string,
  codeVersion: string,
): Promise<ModelRegistration> {
  const { name, version, kind, task, systemPrompt, lineage } = await readCard(storage, `${modelKey}/drydock.json`);
  const files: ModelRegistration["files"] = [];
  for await (const { key, sizeBytes } of storage.list(`${modelKey}/`)) {
    files.push({ name: key.slice(modelKey.length + 1), sizeBytes, sha256: await digestOfObject(storage, key) });
  }
  return { name, version, kind, task, systemPrompt, files, lineage: { ...lineage, codeVersion } };
}

async function readCard(storage: ObjectStorage, key: string): Promise<ModelCard> {
  const text = Buffer.from(await storage.get(key)).toString();
  try {
    return ModelCard.parse(JSON.parse(text));
  } catch (error) {
    throw new InvalidError("bad_model_card", `${key} is not a model card (${messageOf(error)})`, { cause: error });
  }
}

async function digestOfObject(storage: ObjectStorage, key: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of await storage.read(key)) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
