import { createHash } from "node:crypto";
import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ensureTool } from "../build/build-tool.ts";
import { toolFolder, tools } from "../build/tools.ts";
import { writeOciImage } from "./oci-image.ts";

/** Holds the sandbox of each pod. */
export const pauseImage = "drydock.local/pause:1";
/** Small workloads: `pause`, `exit CODE`, `eat MEBIBYTES`, `checkpoint SECONDS`, `stubborn`, `write MEBIBYTES FILE`. */
export const smallImage = "drydock.local/small:1";

/** Archives of both images, made once. */
export async function ensureSmallImages(): Promise<string[]> {
  const program = await ensureTool("pod-program");
  const version = createHash("sha256")
    .update(await readFile(program))
    .digest("hex")
    .slice(0, 16);
  const archives: string[] = [];
  for (const name of [pauseImage, smallImage]) {
    const archive = join(toolFolder("pod-program"), `${name.replaceAll(/[/:]/g, "-")}-${version}.tar`);
    archives.push(archive);
    if (await exists(archive)) continue;
    const layer = [{ from: dirname(program), paths: [tools["pod-program"].program], into: "" }];
    await writeOciImage({ name, layers: [layer], entrypoint: ["/pod-program"], user: "65534:65534" }, archive);
  }
  return archives;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
