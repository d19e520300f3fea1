import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidError, NotFoundError, openStorage, sha256, type ObjectStorage } from "@drydock/kit";
import { ModelCard, findModel, type ModelReference } from "@drydock/spec";
import { StoredModels } from "./stored-models.ts";

/** Where a worker finds a base model: in a folder of its machine, or (then the folder is empty) in object storage. */
export interface BaseModel {
  readonly modelDirectory: string;
  readonly modelKey?: string;
}

/** Where a worker finds the parts of a model. */
export interface LocatedModel extends BaseModel {
  readonly adapterDirectory: string | null;
  readonly adapterKey?: string;
  /** What the model was trained with, when Drydock made it. */
  readonly card: ModelCard | null;
}

export interface ModelLocatorOptions {
  readonly storage: ObjectStorage;
  /** Base models of this machine, a folder each. */
  readonly modelsDirectory: string;
  /** Where models that Drydock made are copied to for workers of this machine. */
  readonly cacheDirectory: string;
  /** What an alias of a model means now; without it, only numbers are understood. */
  readonly versionOf?: (name: string, alias: string) => Promise<number>;
  /** Workers share no disk with us: they get models from object storage, where base models are uploaded on first use. */
  readonly workersAreElsewhere: boolean;
}

/** Where the bytes of one part of a model are now. */
type Place =
  | { readonly kind: "folder"; readonly directory: string }
  /** Keys below a prefix that ends with `/`, in Drydock's own storage. */
  | { readonly kind: "storage"; readonly prefix: string };

/** Finds models: base models in a local folder, models that Drydock made in object storage. */
export class ModelLocator {
  readonly #options: ModelLocatorOptions;
  readonly #stored: StoredModels;

  constructor(options: ModelLocatorOptions) {
    this.#options = options;
    this.#stored = new StoredModels(options.storage);
  }

  /** @throws NotFoundError or InvalidError saying where the weights were looked for */
  async locate(reference: ModelReference): Promise<LocatedModel> {
    const { base, adapter, card } = await this.#find(reference);
    if (!this.#options.workersAreElsewhere)
      return {
        modelDirectory: await this.#folderOf(base),
        adapterDirectory: adapter && (await this.#folderOf(adapter)),
        card,
      };
    return {
      modelDirectory: "",
      modelKey: await this.#keyOf(base),
      adapterDirectory: null,
      ...(adapter && { adapterKey: await this.#keyOf(adapter) }),
      card,
    };
  }

  /** A base model for training. @throws InvalidError for an adapter, which is no base */
  async base(reference: ModelReference): Promise<BaseModel> {
    const { base, adapter } = await this.#find(reference);
    if (adapter !== null)
      throw new InvalidError(
        "adapter_is_no_base",
        `model "${typeof reference === "string" ? reference : reference.uri}" is an adapter; train from its base, or from a full model`,
      );
    if (this.#options.workersAreElsewhere) return { modelDirectory: "", modelKey: await this.#keyOf(base) };
    return { modelDirectory: await this.#folderOf(base) };
  }

  async #find(reference: ModelReference): Promise<{ base: Place; adapter: Place | null; card: ModelCard | null }> {
    if (typeof reference !== "string")
      return { base: await this.#placeOfUri(reference.uri), adapter: null, card: null };
    if (reference.includes("@")) return await this.#made(reference);
    const directory = join(this.#options.modelsDirectory, reference);
    if (await exists(join(directory, "config.json")))
      return { base: { kind: "folder", directory }, adapter: null, card: null };
    const hint = findModel(reference)
      ? "the catalogue knows it, but its weights are not on this machine"
      : "no such model is known";
    throw new NotFoundError(
      "model_weights_not_found",
      `model "${reference}": ${hint}; put its Hugging Face folder at ${directory}, or give model.uri`,
    );
  }

  async #made(reference: string): Promise<{ base: Place; adapter: Place | null; card: ModelCard | null }> {
    const { storage } = this.#options;
    const [name = "", asked = ""] = reference.split("@");
    const { versionOf } = this.#options;
    const version = versionOf === undefined || /^[0-9]+$/.test(asked) ? asked : await versionOf(name, asked);
    const prefix = `models/${name}/${version}/`;
    if ((await storage.head(`${prefix}drydock.json`)) === null)
      throw new NotFoundError(
        "model_not_found",
        `there is no model "${reference}"; \`drydock model list\` shows what there is`,
      );
    const card = ModelCard.parse(JSON.parse(Buffer.from(await storage.get(`${prefix}drydock.json`)).toString()));
    const made: Place = { kind: "storage", prefix };
    if (card.kind === "full") return { base: made, adapter: null, card };
    const { base } = await this.#find(card.base.includes("/") ? { uri: card.base } : card.base);
    return { base, adapter: made, card };
  }

  async #placeOfUri(uri: string): Promise<Place> {
    const { storage } = this.#options;
    if (uri.startsWith(`${storage.url}/`)) {
      const prefix = `${uri.slice(storage.url.length + 1).replace(/\/+$/, "")}/`;
      if ((await storage.head(`${prefix}config.json`)) !== null) return { kind: "storage", prefix };
      throw new NotFoundError("model_weights_not_found", `model.uri: ${uri} in storage has no config.json`);
    }
    if (uri.startsWith("s3://")) return { kind: "folder", directory: await this.#copyOfBucket(uri) };
    return { kind: "folder", directory: await folderOfUri(uri) };
  }

  /** A model in another bucket or prefix, as a folder of this machine. */
  async #copyOfBucket(uri: string): Promise<string> {
    const bucket = openStorage(uri);
    if ((await bucket.head("config.json")) === null)
      throw new NotFoundError("model_weights_not_found", `model.uri: ${uri} has no config.json`);
    const directory = join(this.#options.cacheDirectory, ".uris", sha256(uri));
    await copyBelow(bucket, "", directory);
    return directory;
  }

  /** A folder of this machine with the files of a place. */
  async #folderOf(place: Place): Promise<string> {
    if (place.kind === "folder") return place.directory;
    const { storage, cacheDirectory } = this.#options;
    const directory = join(cacheDirectory, ...place.prefix.replace(/^models\//, "").split("/"));
    await copyBelow(storage, place.prefix, directory);
    return directory;
  }

  async #keyOf(place: Place): Promise<string> {
    return place.kind === "folder"
      ? await this.#stored.ofFolder(place.directory)
      : await this.#stored.ofPrefix(place.prefix);
  }
}

/** Copies the files of a model; those that are there with the same size stay as they are. */
async function copyBelow(storage: ObjectStorage, prefix: string, directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  for await (const { key, sizeBytes } of storage.list(prefix)) {
    const name = key.slice(prefix.length);
    if (!name.includes("/") && (await sizeOf(join(directory, name))) !== sizeBytes)
      await storage.getFile(key, join(directory, name));
  }
}

async function folderOfUri(uri: string): Promise<string> {
  const path = uri.startsWith("file:") ? fileURLToPath(uri) : uri;
  if (/^[a-z0-9]+:\/\//.test(path))
    throw new InvalidError(
      "unknown_model_uri",
      `model.uri "${uri}" is not understood here: use a folder, file:///folder, or s3://bucket/folder`,
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
