import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Readable } from "node:stream";
import { NotFoundError, canonicalJson, digestOf, inParallel, sha256, type ObjectStorage } from "@drydock/kit";
import { StoredModel, storedModelManifestName } from "@drydock/spec";

type StoredFile = StoredModel["files"][number];
/** Without a place. */
type Digested = Omit<StoredFile, "key">;

/** Where models lie for workers that share no disk with the controller: `<folder>/<digest of the manifest>/`. */
const modelsFolder = "models-base";
/** What a model is read from; the rest of its folder (pictures, other formats of the weights) stays where it is. */
const modelFilePattern = /^[^.].*\.(?:json|safetensors|txt|jinja|model|tiktoken)$/;
const filesAtOnce = 2;

/**
 * Models as object storage holds them: a list of files with digests, under a key that is the list's own digest. A folder
 * of this machine is uploaded once; a model that Drydock made lies there already and only gets its list.
 *
 * Safe to repeat, and for several controllers at once: keys name their content, what is there is not sent again, and the
 * list is written last.
 */
export class StoredModels {
  readonly #storage: ObjectStorage;
  readonly #underWay = new Map<string, Promise<string>>();

  constructor(storage: ObjectStorage) {
    this.#storage = storage;
  }

  /** Key of the model in a folder of this machine. @throws NotFoundError when it holds no model */
  async ofFolder(directory: string): Promise<string> {
    return await this.#once(resolve(directory), async () => await this.#storeFolder(resolve(directory)));
  }

  /** Key of the model whose files lie in storage below `prefix`, which ends with `/`. @throws NotFoundError when none do */
  async ofPrefix(prefix: string): Promise<string> {
    return await this.#once(prefix, async () => await this.#listPrefix(prefix));
  }

  async #once(name: string, store: () => Promise<string>): Promise<string> {
    const started = this.#underWay.get(name);
    if (started) return await started;
    const stored = store().finally(() => this.#underWay.delete(name));
    this.#underWay.set(name, stored);
    return await stored;
  }

  async #storeFolder(directory: string): Promise<string> {
    const found = await filesOf(directory);
    const files = await this.#known({ directory, found }, async () => await digested(directory, found));
    const { text, modelKey } = manifestOf(files);
    await inParallel(files.length, filesAtOnce, async (index) => {
      const { name, sizeBytes } = files[index]!;
      if ((await this.#storage.head(`${modelKey}/${name}`))?.sizeBytes !== sizeBytes)
        await this.#storage.putFile(`${modelKey}/${name}`, join(directory, name));
    });
    return await this.#writeManifest(modelKey, text);
  }

  async #listPrefix(prefix: string): Promise<string> {
    const found: { key: string; sizeBytes: number; modifiedAtMs: number }[] = [];
    for await (const { key, sizeBytes, modifiedAt } of this.#storage.list(prefix))
      if (!key.slice(prefix.length).includes("/")) found.push({ key, sizeBytes, modifiedAtMs: modifiedAt.getTime() });
    if (found.length === 0) throw new NotFoundError("model_weights_not_found", `storage holds no model at ${prefix}`);
    const files = await this.#known({ prefix, found }, async () => {
      const digests = [];
      for (const { key, sizeBytes } of found)
        digests.push({
          name: key.slice(prefix.length),
          sizeBytes,
          sha256: await digestOfStream(await this.#storage.read(key)),
        });
      return digests;
    });
    const { text, modelKey } = manifestOf(files.map((file) => ({ ...file, key: `${prefix}${file.name}` })));
    return await this.#writeManifest(modelKey, text);
  }

  /** The digests of files that look as they did when they were last digested; else computed and written down. */
  async #known(look: unknown, digest: () => Promise<Digested[]>): Promise<Digested[]> {
    const key = `${modelsFolder}/looks/${digestOf(look)}.json`;
    if ((await this.#storage.head(key)) !== null) {
      const text = Buffer.from(await this.#storage.get(key)).toString();
      return StoredModel.shape.files.element.omit({ key: true }).array().parse(JSON.parse(text));
    }
    const digests = await digest();
    await this.#storage.put(key, JSON.stringify(digests));
    return digests;
  }

  async #writeManifest(modelKey: string, text: string): Promise<string> {
    const key = `${modelKey}/${storedModelManifestName}`;
    if ((await this.#storage.head(key)) === null) await this.#storage.put(key, text);
    return modelKey;
  }
}

function manifestOf(files: readonly StoredFile[]): { text: string; modelKey: string } {
  const manifest: StoredModel = { format: "drydock-stored-model/1", files: [...files] };
  const text = canonicalJson(manifest);
  return { text, modelKey: `${modelsFolder}/${sha256(text)}` };
}

interface FoundFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly modifiedAtMs: number;
}

async function filesOf(directory: string): Promise<FoundFile[]> {
  const found: FoundFile[] = [];
  for (const name of (await readdir(directory)).toSorted()) {
    if (!modelFilePattern.test(name)) continue;
    const { size, mtimeMs } = await stat(join(directory, name));
    found.push({ name, sizeBytes: size, modifiedAtMs: mtimeMs });
  }
  if (!found.some(({ name }) => name === "config.json"))
    throw new NotFoundError("model_weights_not_found", `folder ${directory} has no config.json`);
  return found;
}

async function digested(directory: string, found: readonly FoundFile[]): Promise<Digested[]> {
  const files = [];
  for (const { name, sizeBytes } of found)
    files.push({ name, sizeBytes, sha256: await digestOfStream(createReadStream(join(directory, name))) });
  return files;
}

async function digestOfStream(stream: Readable): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(stream, hash);
  return hash.digest("hex");
}
