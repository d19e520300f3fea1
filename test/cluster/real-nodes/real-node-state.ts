import { execFile } from "node:child_process";
import { readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What a process needs to talk to a real node's containerd, or to clean up behind it. Kept in the node's folder. */
export interface RealNodeState {
  readonly socket: string;
  /** Path of containerd's command line tool. */
  readonly ctr: string;
  readonly cgroup: string;
  readonly bridge: string;
  readonly environment: Readonly<Record<string, string>>;
}

const stateFile = "real-node.json";

export async function writeRealNodeState(folder: string, state: RealNodeState): Promise<void> {
  await writeFile(join(folder, stateFile), JSON.stringify(state));
}

export async function readRealNodeState(folder: string): Promise<RealNodeState> {
  return JSON.parse(await readFile(join(folder, stateFile), "utf8")) as RealNodeState;
}

/** Folders of the real nodes in a cluster's folder. */
export async function realNodeFolders(clusterFolder: string): Promise<string[]> {
  const files = await readdir(clusterFolder, { recursive: false, withFileTypes: true });
  const folders = files.filter((entry) => entry.isDirectory() && /^real-\d+$/.test(entry.name));
  return folders.map(({ name }) => join(clusterFolder, name)).toSorted();
}

/** Runs containerd's command line tool on a node, and returns what it prints. */
export async function ctr(nodeFolder: string, parameters: readonly string[]): Promise<string> {
  const { socket, ctr: program, environment } = await readRealNodeState(nodeFolder);
  const { stdout } = await run(program, ["--address", socket, "--namespace", "k8s.io", ...parameters], {
    env: { ...process.env, ...environment },
    maxBuffer: 1 << 24,
  });
  return stdout;
}

/** Makes an image known to a node, from the archive of an OCI layout. */
export async function importImage(nodeFolder: string, archive: string): Promise<void> {
  await ctr(nodeFolder, ["images", "import", archive]);
}
