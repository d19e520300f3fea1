import { readFile, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { ConflictError, InvalidError, NotFoundError, messageOf, openStorage, type ObjectStorage } from "@drydock/kit";
import {
  drydockTinyVl,
  drydockTinyVlName,
  findModel,
  modelFactsFromConfig,
  parseModelReference,
  refuseUnknownModel,
  type Model,
  type ModelFacts,
  type ModelFolderConfig,
  type RunSpec,
} from "@drydock/spec";
import { modelNotFound, type ModelStore } from "../store/model-store.ts";

export interface ModelDirectoryOptions {
  /** Folder of base models on this machine: `drydock-tiny-vl` and others in Hugging Face layout. */
  readonly modelsDirectory: string;
  readonly storage: ObjectStorage;
  readonly models: ModelStore;
}

/** What a folder holds, read by name: null when there is no such file. */
type ReadFile = (name: string) => Promise<string | null>;

/** Finds the facts of the model that a run spec names. */
export class ModelDirectory {
  readonly #options: ModelDirectoryOptions;

  constructor(options: ModelDirectoryOptions) {
    this.#options = options;
  }

  /**
   * Facts of a catalogue name, of a `name@version` that Drydock made, or of a Hugging Face folder; undefined when there is
   * no such model, so that the planner says so.
   *
   * @throws InvalidError when the folder's files make no sense, or the model is an adapter
   */
  async find(reference: RunSpec["model"]): Promise<ModelFacts | undefined> {
    if (typeof reference !== "string") return await this.#fromUri(reference.uri);
    if (reference.toLowerCase() === drydockTinyVlName) return await this.#tiny();
    return findModel(reference) ?? (await this.#fromVersion(reference));
  }

  /**
   * The reference with an alias, or no version at all, replaced by the number that it stands for now: what is written into a run or an
   * evaluation, so that it means the same for ever. A reference to what Drydock did not make stays as it is.
   *
   * @throws NotFoundError `model_not_found` for an alias that is not there
   * @throws ConflictError `model_files_removed`
   */
  async resolve(reference: RunSpec["model"]): Promise<RunSpec["model"]> {
    if (typeof reference !== "string") return reference;
    const isShipped = reference.toLowerCase() === drydockTinyVlName || findModel(reference) !== undefined;
    const model = isShipped ? null : await this.#made(reference);
    return model === null ? reference : `${model.name}@${model.version}`;
  }

  /** {@link resolve}, for a model that must be there. @throws NotFoundError `model_not_found` when nothing is known of it */
  async requireModel(reference: RunSpec["model"]): Promise<RunSpec["model"]> {
    const resolved = await this.resolve(reference);
    const isMade = typeof resolved === "string" && resolved.includes("@") && (await this.#made(resolved)) !== null;
    if (isMade || (await this.find(resolved)) !== undefined) return resolved;
    const { message } = refuseUnknownModel(reference);
    throw new NotFoundError("model_not_found", message, {
      details: [{ path: "model", code: "model_not_found", message }],
    });
  }

  /** Facts of the model that comes with Drydock, when its folder is here. */
  async shipped(): Promise<ModelFacts | undefined> {
    return await this.#tiny();
  }

  async #tiny(): Promise<ModelFacts | undefined> {
    const folder = await readConfigs(
      drydockTinyVlName,
      localReader(join(this.#options.modelsDirectory, drydockTinyVlName)),
    );
    return folder === null ? undefined : drydockTinyVl(folder);
  }

  async #fromVersion(reference: string): Promise<ModelFacts | undefined> {
    const model = await this.#made(reference);
    if (model === null) return undefined;
    if (model.kind === "adapter") {
      const message = `${model.name}@${model.version} is an adapter, which cannot be the base of a run: use its base, ${model.lineage.base}, or a model of mode "full"`;
      throw new InvalidError("adapter_as_base", message, {
        details: [{ path: "model", code: "adapter_as_base", message }],
      });
    }
    const folder = await readConfigs(
      reference,
      storageReader(this.#options.storage, `models/${model.name}/${model.version}/`),
    );
    return folder === null ? undefined : modelFactsFromConfig(`${model.name}@${model.version}`, folder);
  }

  /** A version that Drydock made, with its files; null when there is none. */
  async #made(reference: string): Promise<Model | null> {
    const parsed = parseModelReference(reference);
    if (parsed === null) return null;
    const model = await this.#options.models.find(parsed.name, parsed.version);
    if (model === null && typeof parsed.version === "string") throw atField(modelNotFound(parsed.name, parsed.version));
    if (model !== null) refuseRemoved(model);
    return model;
  }

  async #fromUri(uri: string): Promise<ModelFacts | undefined> {
    const folder = await readConfigs(uri, readerOf(uri));
    return folder === null ? undefined : modelFactsFromConfig(uri, folder);
  }
}

function atField({ code, message }: NotFoundError): NotFoundError {
  return new NotFoundError(code, message, { details: [{ path: "model", code, message }] });
}

/** @throws ConflictError `model_files_removed` when a retention rule has removed the files of a version */
export function refuseRemoved({
  name,
  version,
  filesRemovedAt,
}: Pick<Model, "name" | "version" | "filesRemovedAt">): void {
  if (filesRemovedAt === null) return;
  const message = `the files of ${name}@${version} were removed by the retention rule of ${name} on ${filesRemovedAt.slice(0, 10)}: use another version, or make it again from its lineage`;
  throw new ConflictError("model_files_removed", message, {
    details: [{ path: "model", code: "model_files_removed", message }],
  });
}

function readerOf(uri: string): ReadFile {
  if (uri.startsWith("file:")) return localReader(fileURLToPath(uri));
  if (isAbsolute(uri)) return localReader(uri);
  if (uri.startsWith("s3://")) return storageReader(openStorage(uri), "");
  const message = `"${uri}" is not a place that models are read from: use file:///folder, an absolute path, or s3://bucket/folder`;
  throw new InvalidError("unknown_model_uri", message, {
    details: [{ path: "model.uri", code: "unknown_model_uri", message }],
  });
}

function localReader(directory: string): ReadFile {
  return async (name) => {
    const path = join(directory, name);
    const found = await stat(path).catch(() => null);
    return found === null || !found.isFile() || found.size > maximumConfigBytes ? null : await readFile(path, "utf8");
  };
}

/** A `config.json` is a few kilobytes; something else is not one. */
const maximumConfigBytes = 4 * 2 ** 20;

function storageReader(storage: ObjectStorage, prefix: string): ReadFile {
  return async (name) => {
    try {
      return new TextDecoder().decode(await storage.get(`${prefix}${name}`));
    } catch (error) {
      if (error instanceof NotFoundError) return null;
      throw error;
    }
  };
}

async function readConfigs(model: string, read: ReadFile): Promise<ModelFolderConfig | null> {
  const names = ["config.json", "preprocessor_config.json", "processor_config.json"] as const;
  const [config, preprocessor, processor] = await Promise.all(names.map(read));
  if (typeof config !== "string") return null;
  const own = typeof preprocessor === "string" ? parse(model, names[1], preprocessor) : undefined;
  // transformers 5 writes one file for the whole processor instead.
  const joint = typeof processor === "string" ? parse(model, names[2], processor) : undefined;
  return { config: parse(model, names[0], config), preprocessor: own ?? imageProcessorOf(joint) };
}

function imageProcessorOf(processor: unknown): unknown {
  return typeof processor === "object" && processor !== null && "image_processor" in processor
    ? processor.image_processor
    : undefined;
}

function parse(model: string, file: string, content: string): unknown {
  try {
    return JSON.parse(content);
  } catch (cause) {
    const message = `${file} of ${model} is not JSON (${messageOf(cause)}): use the folder as it was saved, or repair the file`;
    throw new InvalidError("bad_model_config", message, {
      cause,
      details: [{ path: "model", code: "bad_model_config", message }],
    });
  }
}
