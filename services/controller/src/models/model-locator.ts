import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidError, NotFoundError, type ObjectStorage } from "@drydock/kit";
import { ModelCard, findModel, type ModelReference } from "@drydock/spec";

/** Folders of a model on this machine. */
export interface LocatedModel {
  readonly modelDirectory: string;
  readonly adapterDirectory: string | null;
  /** What the model was trained with, when Drydock made it. */
  readonly card: ModelCard | null;
}

/** Finds models: base models in a local folder, models that Drydock made in object storage (copied to a cache). */
export class ModelLocator {
  readonly #storage: ObjectStorage;
  readonly #modelsDirectory: string;
  readonly #cacheDirectory: string;

  constructor(storage: ObjectStorage, modelsDirectory: string, cacheDirectory: string) {
    this.#storage = storage;
    this.#modelsDirectory = modelsDirectory;
    this.#cacheDirectory = cacheDirectory;
  }

  /** @throws NotFoundError or InvalidError saying where the weights were looked for */
  async locate(reference: ModelReference): Promise<LocatedModel> {
    if (typeof reference !== "string")
      return { modelDirectory: await folderOf(reference.uri), adapterDirectory: null, card: null };
    if (reference.includes("@")) return await this.#made(reference);
    const directory = join(this.#modelsDirectory, reference);
    if (await exists(join(directory, "config.json")))
      return { modelDirectory: directory, adapterDirectory: null, card: null };
    const hint = findModel(reference)
      ? "the catalogue knows it, but its weights are not on this machine"
      : "no such model is known";
    throw new NotFoundError(
      "model_weights_not_found",
      `model "${reference}": ${hint}; put its Hugging Face folder at ${directory}, or give model.uri`,
    );
  }

  /** A folder of a base model for training. @throws InvalidError for an adapter, which is no base */
  async base(reference: ModelReference): Promise<string> {
    const { modelDirectory, adapterDirectory } = await this.locate(reference);
    if (adapterDirectory !== null)
      throw new InvalidError(
        "adapter_is_no_base",
        `model "${typeof reference === "string" ? reference : reference.uri}" is an adapter; train from its base, or from a full model`,
      );
    return modelDirectory;
  }

  async #made(reference: string): Promise<LocatedModel> {
    const [name = "", version = ""] = reference.split("@");
    const prefix = `models/${name}/${version}/`;
    const directory = join(this.#cacheDirectory, name, version);
    let files = 0;
    for await (const { key, sizeBytes } of this.#storage.list(prefix)) {
      const path = join(directory, key.slice(prefix.length));
      await mkdir(directory, { recursive: true });
      if ((await sizeOf(path)) !== sizeBytes) await this.#storage.getFile(key, path);
      files += 1;
    }
    if (files === 0)
      throw new NotFoundError(
        "model_not_found",
        `there is no model "${reference}"; \`drydock model list\` shows what there is`,
      );
    const card = ModelCard.parse(JSON.parse(await readFile(join(directory, "drydock.json"), "utf8")));
    if (card.kind === "full") return { modelDirectory: directory, adapterDirectory: null, card };
    const base = await this.locate(card.base.includes("/") ? { uri: card.base } : card.base);
    return { modelDirectory: base.modelDirectory, adapterDirectory: directory, card };
  }
}

async function folderOf(uri: string): Promise<string> {
  const path = uri.startsWith("file:") ? fileURLToPath(uri) : uri;
  if (/^[a-z0-9]+:\/\//.test(path))
    throw new InvalidError(
      "unknown_model_uri",
      `model.uri "${uri}" is not understood here: use a folder or file:///folder`,
    );
  if (!(await exists(join(path, "config.json"))))
    throw new NotFoundError("model_weights_not_found", `model.uri: folder ${path} has no config.json`);
  return path;
}

async function exists(path: string): Promise<boolean> {
  return (await sizeOf(path)) !== null;
}

/** Bytes of a file; null when there is none. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return null;
    throw error;
  }
}
