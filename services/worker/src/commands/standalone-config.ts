import { readFile, stat } from "node:fs/promises";
import { dirname, isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidError, type ErrorDetail } from "@drydock/kit";
import { RunSpec } from "@drydock/spec";
import { parse } from "yaml";

/** What a run spec needs that makes no sense for a worker alone. */
const standaloneDefaults = { name: "standalone", dataset: "standalone@1", task: "chat" } as const;

/** A run spec whose model is a folder on this machine. */
export interface StandaloneConfig {
  readonly spec: RunSpec;
  /** Absolute path of the base model's folder, Hugging Face layout. */
  readonly modelDirectory: string;
}

/**
 * Reads a run spec from a YAML or JSON file for training without a control plane. `name`, `dataset` and `task` may be
 * left out; `model.uri` must be a folder, absolute, relative to the working folder, or relative to the file.
 *
 * @throws InvalidError `invalid_config` with every field that is wrong
 */
export async function readStandaloneConfig(path: string): Promise<StandaloneConfig> {
  const value = parseText(path, await readText(path));
  const parsed = RunSpec.safeParse({ ...standaloneDefaults, ...value });
  if (!parsed.success) {
    const details = parsed.error.issues.map(({ path: field, message, code }): ErrorDetail => ({
      path: field.join("."),
      code,
      message,
    }));
    const sentence = details
      .map((detail) => `${detail.path === "" ? "" : `${detail.path}: `}${detail.message}`)
      .join("; ");
    throw new InvalidError("invalid_config", `${path}: ${sentence}`, { details });
  }
  if (parsed.data.warmStart !== undefined)
    throw new InvalidError(
      "invalid_config",
      `${path}: warmStart names a run of a Drydock, which a worker alone cannot see: give the adapter's folder with --adapter`,
    );
  const modelDirectory = await modelDirectoryOf(path, parsed.data);
  // Absolute, so that the adapter and the card name a base that is found from anywhere.
  return { spec: { ...parsed.data, model: { uri: modelDirectory } }, modelDirectory };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new InvalidError("invalid_config", `config file ${path} cannot be read: does it exist?`, { cause: error });
  }
}

function parseText(path: string, text: string): object {
  let value: unknown;
  try {
    value = parse(text); // JSON is YAML
  } catch (error) {
    throw new InvalidError("invalid_config", `${path} is neither YAML nor JSON: ${String(error).split("\n")[0]}`, {
      cause: error,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new InvalidError("invalid_config", `${path} must hold a run spec: an object with "model", "training", …`);
  return value;
}

async function modelDirectoryOf(configPath: string, { model }: RunSpec): Promise<string> {
  if (typeof model === "string") {
    throw new InvalidError(
      "invalid_config",
      `${configPath}: model is "${model}", but a worker alone needs a folder: write model: { uri: path/of/the/folder }`,
    );
  }
  const path = model.uri.startsWith("file:") ? fileURLToPath(model.uri) : model.uri;
  const candidates = isAbsolute(path) ? [path] : [resolve(path), resolve(dirname(configPath), path)];
  for (const candidate of candidates) {
    if (await isFolder(candidate)) return candidate;
  }
  throw new InvalidError("invalid_config", `${configPath}: model.uri "${model.uri}" is not a folder`);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}
