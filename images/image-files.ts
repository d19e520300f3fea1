/*
 * The one list of what goes into an image of a service. The Containerfiles copy it from a staged folder
 * (images/stage-image.ts); the test cluster packs the same list into an image without a container engine.
 */
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

export type Service = "api" | "controller" | "worker";

const root = join(import.meta.dirname, "..");

/** Paths relative to the repository's root; a folder stands for all in it but what `leftOut` names. */
export interface ImageFiles {
  /** Installed packages. They change rarely and make a layer of their own. */
  readonly dependencies: readonly string[];
  /** Our own source and the links by which packages find each other. */
  readonly own: readonly string[];
}

/** Patterns of names that no image needs, anywhere: tests, other platforms' programs, maps, types. */
export const leftOut: readonly string[] = [
  "*.test.ts",
  "*.d.ts",
  "*.d.mts",
  "*.d.cts",
  "*.map",
  "*.md",
  "node_modules/.cache",
  "onnxruntime-node/bin/napi-v6/darwin",
  "onnxruntime-node/bin/napi-v6/win32",
  `onnxruntime-node/bin/napi-v6/linux/${process.arch === "arm64" ? "x64" : "arm64"}`,
  "koffi-linux-*/musl_*",
  "core-bridge/releases/*-darwin",
  "core-bridge/releases/*-msvc",
  `core-bridge/releases/${process.arch === "arm64" ? "x86_64" : "aarch64"}-unknown-linux-gnu`,
  "packages/*/test",
  "packages/*/scripts",
  "services/*/test",
  "services/*/scripts",
];

/** Folders beside `src` that a service reads when it runs. */
const besideSource: Readonly<Record<Service, readonly string[]>> = {
  api: ["services/api/migrations", "services/api/openapi.json", "models/drydock-tiny-vl"],
  controller: ["models/drydock-tiny-vl"],
  worker: [],
};

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly workspaces?: unknown;
}

/** The files of a service: its source, that of our packages it depends on, and every installed package behind them. */
export function imageFiles(service: Service): ImageFiles {
  const dependencies = new Set<string>();
  const own = new Set<string>(["package.json", ...besideSource[service]]);
  const waiting = [`services/${service}`];
  for (let folder = waiting.pop(); folder !== undefined; folder = waiting.pop()) {
    const isOwn = !folder.startsWith("node_modules/");
    if (isOwn) for (const path of [`${folder}/package.json`, `${folder}/src`]) own.add(path);
    else dependencies.add(folder);
    for (const name of dependenciesOf(folder)) {
      const source = ownPackages().get(name);
      const found = source ?? installed(folder, name);
      if (found === null) continue;
      if (source !== undefined) own.add(`node_modules/${name}`);
      const isNew = source === undefined ? !dependencies.has(found) : !own.has(`${found}/src`);
      if (isNew) waiting.push(found);
    }
  }
  return { dependencies: withoutNested(dependencies), own: [...own].toSorted() };
}

function dependenciesOf(folder: string): string[] {
  const { dependencies = {}, optionalDependencies = {} } = manifestOf(folder);
  return [...new Set([...Object.keys(dependencies), ...Object.keys(optionalDependencies)])];
}

function manifestOf(folder: string): Manifest {
  return JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")) as Manifest;
}

let known: Map<string, string> | undefined;

/** Our packages by name, with their folders. */
function ownPackages(): ReadonlyMap<string, string> {
  if (known !== undefined) return known;
  const folders = globSync(["packages/*", "services/*", "workflows", "proto"], { cwd: root });
  known = new Map(
    folders
      .filter((folder) => existsSync(join(root, folder, "package.json")))
      .map((folder) => [manifestOf(folder).name, folder]),
  );
  return known;
}

/** Where Node finds a package from a folder: the nearest node_modules upwards. Null for an optional one of another platform. */
function installed(from: string, name: string): string | null {
  for (let folder = join(root, from); ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules", name);
    if (existsSync(join(candidate, "package.json"))) return relative(root, candidate);
    if (relative(root, folder) === "") return null;
  }
}

/** A package inside another's folder comes along with it. */
function withoutNested(folders: ReadonlySet<string>): string[] {
  const sorted = [...folders].toSorted();
  return sorted.filter((folder) => !sorted.some((other) => folder.startsWith(`${other}/`)));
}
