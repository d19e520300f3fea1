import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";
import { withFileLock } from "./file-lock.ts";

const run = promisify(execFile);

/**
 * Debian's packages, unpacked into a folder of the tool cache: nothing is installed.
 *
 * @param isComplete  whether a folder holds what is wanted; asked before anything is fetched
 * @returns the folder
 */
export async function unpackDebianPackages(
  folder: string,
  packages: readonly string[],
  isComplete: (root: string) => Promise<boolean>,
): Promise<string> {
  const root = join(toolCache(), folder);
  if (await isComplete(root)) return root;
  await mkdir(toolCache(), { recursive: true });
  await withFileLock(`${root}.lock`, async () => {
    if (!(await isComplete(root))) await unpack(root, packages);
  });
  return root;
}

async function unpack(root: string, packages: readonly string[]): Promise<void> {
  const folder = await mkdtemp(`${root}-`);
  try {
    const download = () => run("apt-get", ["download", ...packages], { cwd: folder });
    await download().catch(async () => {
      await run("apt-get", ["update"]); // the package lists may never have been fetched on this computer
      await download();
    });
    const tree = join(folder, "tree");
    for (const file of await readdir(folder))
      if (file.endsWith(".deb")) await run("dpkg-deb", ["--extract", join(folder, file), tree]);
    await rm(root, { recursive: true, force: true });
    await rename(tree, root);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
