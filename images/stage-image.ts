/*
 * Lays out the files of an image for a container engine.
 *
 *   node images/stage-image.ts worker      → .drydock/images/worker/{dependencies,own}
 *   docker build -f images/worker.Containerfile .drydock/images/worker
 */
import { execFile } from "node:child_process";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { writeWorkflowBundle } from "../services/controller/src/workflow-code.ts";
import { imageFiles, leftOut, type Service } from "./image-files.ts";

const run = promisify(execFile);
const root = join(import.meta.dirname, "..");

/** Stages one image's files and returns the folder to build from. */
export async function stageImage(service: Service, target: string): Promise<void> {
  await rm(target, { recursive: true, force: true });
  for (const [part, paths] of Object.entries(imageFiles(service)) as [string, readonly string[]][]) {
    const folder = join(target, part);
    await mkdir(folder, { recursive: true });
    const excluded = leftOut.map((pattern) => `--exclude=${pattern}`);
    const archive = join(target, `${part}.tar`);
    await run("tar", ["-C", root, ...excluded, "-cf", archive, ...paths]);
    await run("tar", ["-C", folder, "-xf", archive]);
    await rm(archive);
  }
  if (service === "controller") await writeWorkflowBundle(join(target, "own", "workflows", "bundle.cjs"));
}

if (import.meta.main) {
  const services: readonly string[] = ["api", "controller", "worker"];
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !services.includes(name));
  if (wanted.length === 0 || unknown !== undefined) {
    console.error(`${unknown ?? "no name"}: give one or more of ${services.join(", ")}`);
    process.exit(64);
  }
  for (const service of wanted as Service[]) {
    const target = join(root, ".drydock", "images", service);
    await stageImage(service, target);
    console.log(`docker build -t drydock/${service}:0.1.0 -f images/${service}.Containerfile ${target}`);
  }
}
