import { access } from "node:fs/promises";
import { join } from "node:path";
import { messageOf } from "@drydock/kit";
import { unpackDebianPackages } from "./debian-packages.ts";

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
  try {
    const isThere = async (root: string): Promise<boolean> => await isComplete(runtimeIn(root));
    return runtimeIn(await unpackDebianPackages("container-runtime-debian", debianPackages, isThere));
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

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
