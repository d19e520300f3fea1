import { access, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleWorkflowCode, type WorkerOptions } from "@temporalio/worker";

const workflowsPath = fileURLToPath(import.meta.resolve("@drydock/workflows"));
/** Beside the source of the workflows, in images only. */
const bundlePath = join(workflowsPath, "..", "..", "bundle.cjs");

/**
 * The workflows for a Temporal worker: bundled beforehand where an image holds the bundle, else from their source. The
 * bundler loads a native compiler, which wants a home folder that it may write to; pods have none.
 */
export async function workflowCode(): Promise<Pick<WorkerOptions, "workflowBundle" | "workflowsPath">> {
  try {
    await access(bundlePath);
  } catch {
    return { workflowsPath };
  }
  return { workflowBundle: { codePath: bundlePath } };
}

/** Writes the bundle that an image holds as `workflows/bundle.cjs`. */
export async function writeWorkflowBundle(target: string): Promise<void> {
  const { code } = await bundleWorkflowCode({ workflowsPath });
  await writeFile(target, code);
}
