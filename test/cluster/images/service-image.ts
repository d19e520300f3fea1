import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, mkdir, readFile, readdir, rm, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";
import { containerSettings } from "../../../images/containerfile.ts";
import { imageFiles, leftOut, type Service } from "../../../images/image-files.ts";
import { writeWorkflowBundle } from "../../../services/controller/src/workflow-code.ts";
import { withFileLock } from "../build/file-lock.ts";
import { writeOciImage, type LayerPart } from "./oci-image.ts";

const run = promisify(execFile);
const root = resolve(import.meta.dirname, "..", "..", "..");

/** A service's image as pods of the test cluster name it; with `imagePullPolicy: Never`. */
export function imageName(service: Service): string {
  return `drydock.local/${service}:test`;
}
export const workerImage = imageName("worker");

export async function ensureWorkerImage(): Promise<string> {
  return await ensureServiceImage("worker");
}

/**
 * A service's image as an archive, from the same list of files and the same settings as its Containerfile. Its base is
 * this computer's Node and the libraries that it and the native packages load. Kept by what is in it.
 */
export async function ensureServiceImage(service: Service): Promise<string> {
  const folder = join(toolCache(), `${service}-image`);
  const archive = join(folder, `${await digestOfContents(service)}.tar`);
  if (await exists(archive)) return archive;
  await mkdir(folder, { recursive: true });
  await withFileLock(join(folder, "lock"), async () => {
    if (await exists(archive)) return;
    const { dependencies, own } = imageFiles(service);
    const settings = containerSettings(service);
    const app = settings.workingDirectory.slice(1);
    const exclude = leftOut;
    const extra: LayerPart[] = [];
    if (service === "controller") {
      await writeWorkflowBundle(join(folder, "bundle.cjs"));
      extra.push({ from: folder, paths: ["bundle.cjs"], into: `${app}/workflows` });
    }
    await writeOciImage(
      {
        name: imageName(service),
        layers: [
          await baseLayer(),
          [{ from: root, paths: dependencies, into: app, exclude }],
          [{ from: root, paths: own, into: app, exclude }, ...extra],
        ],
        entrypoint: settings.entrypoint,
        environment: ["PATH=/usr/local/bin:/usr/bin:/bin", ...settings.environment],
        workingDirectory: settings.workingDirectory,
        user: settings.user,
      },
      archive,
    );
    await keepNewest(folder, 3);
  });
  return archive;
}

/** Node as `node`, with each library that it or a native package loads. */
async function baseLayer(): Promise<LayerPart[]> {
  const node = process.execPath;
  const places = ["onnxruntime-node/bin", "@img", "@koromix", "@temporalio/core-bridge/releases", "@swc"].map((name) =>
    join(root, "node_modules", name),
  );
  const filters = [
    "-path",
    "*linux*",
    "-name",
    "*.node",
    "-not",
    "-path",
    "*musl*",
    "-not",
    "-path",
    "*aarch64*",
    "-not",
    "-path",
    "*arm64*",
  ];
  const native = (await run("find", ["-L", ...places, ...filters])).stdout.split("\n").filter(Boolean);
  const libraries = new Set<string>();
  for (const program of [node, ...native])
    for (const [, path] of (await run("ldd", [program])).stdout.matchAll(/(?:=> )?(\/\S+) \(0x/g))
      if (path !== undefined && !path.startsWith(root)) libraries.add(path.slice(1));
  return [
    { from: join(node, ".."), paths: ["node"], into: "usr/local/bin" },
    { from: "/", paths: [...libraries].toSorted(), into: "", follows: true },
  ];
}

/** Changes with any file that goes in: names, sizes and times of installed packages, bytes of our own. */
async function digestOfContents(service: Service): Promise<string> {
  const { dependencies, own } = imageFiles(service);
  const hash = createHash("sha256").update(JSON.stringify({ dependencies, own, leftOut }));
  hash.update(process.version).update(await readFile(join(root, "images", `${service}.Containerfile`)));
  hash.update(await readFile(join(root, "package-lock.json")));
  for (const path of own) {
    if (path.startsWith("node_modules/")) continue;
    for (const file of await filesUnder(join(root, path))) hash.update(file).update(await readFile(file));
  }
  return hash.digest("hex").slice(0, 16);
}

async function filesUnder(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path];
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map(({ parentPath, name }) => join(parentPath, name))
    .toSorted();
}

async function keepNewest(folder: string, count: number): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".tar"));
  const aged = await Promise.all(names.map(async (name) => ({ name, time: (await stat(join(folder, name))).mtimeMs })));
  for (const { name } of aged.toSorted((a, b) => b.time - a.time).slice(count)) await rm(join(folder, name));
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
