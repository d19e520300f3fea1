import { execFile } from "node:child_process";
import { access, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "@drydock/kit";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";
import { withFileLock } from "./file-lock.ts";

const run = promisify(execFile);
const debianPackages = ["containerd", "runc", "containernetworking-plugins", "libseccomp2"];

/** Programs of containerd, and the folder of its network plugins. */
export interface ContainerRuntime {
  readonly containerd: string;
  readonly ctr: string;
  readonly networkPlugins: string;
  /** Folders to put first on PATH: containerd finds its shim and runc there. */
  readonly path: readonly string[];
  /** Folder for LD_LIBRARY_PATH, when the packages were unpacked beside the system. */
  readonly libraries: string | null;
}

/**
 * The computer's own containerd, runc and network plugins; else Debian's packages of them, unpacked into the tool cache:
 * nothing is installed. `missing` says what stands in the way.
 */
export async function ensureContainerRuntime(): Promise<ContainerRuntime | { readonly missing: string }> {
  if (process.platform !== "linux") return { missing: "real kubelets need Linux" };
  if (process.getuid?.() !== 0) return { missing: "real kubelets need root" };
  const system = runtimeIn("/");
  if (await isComplete(system)) return { ...system, libraries: null };
  const root = join(toolCache(), "container-runtime-debian");
  const unpacked = runtimeIn(root);
  if (await isComplete(unpacked)) return unpacked;
  try {
    await mkdir(toolCache(), { recursive: true });
    await withFileLock(`${root}.lock`, async () => {
      if (!(await isComplete(unpacked))) await unpackPackages(root);
    });
    return unpacked;
  } catch (error) {
    return { missing: `no containerd and runc, and Debian's packages cannot be had (${messageOf(error)})` };
  }
}

function runtimeIn(root: string): ContainerRuntime {
  return {
    containerd: join(root, "usr/bin/containerd"),
    ctr: join(root, "usr/bin/ctr"),
    networkPlugins: join(root, "usr/lib/cni"),
    path: [join(root, "usr/bin"), join(root, "usr/sbin")],
    libraries: join(root, "usr/lib/x86_64-linux-gnu"),
  };
}

async function isComplete(runtime: ContainerRuntime): Promise<boolean> {
  const shim = join(runtime.containerd, "../containerd-shim-runc-v2");
  const runc = join(runtime.containerd, "../../sbin/runc");
  for (const file of [runtime.containerd, runtime.ctr, shim, runc, join(runtime.networkPlugins, "bridge")])
    if (!(await exists(file))) return false;
  return true;
}

async function unpackPackages(root: string): Promise<void> {
  const folder = await mkdtemp(`${root}-`);
  try {
    const download = () => run("apt-get", ["download", ...debianPackages], { cwd: folder });
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

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
