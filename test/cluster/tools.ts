/*
 * The programs of the test cluster, built once from their Go modules and kept by version outside the checkout.
 *
 *   node test/cluster/tools.ts            builds what is missing
 */
import { execFile } from "node:child_process";
import { access, cp, mkdir, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const stripped = "-s -w";

interface Tool {
  readonly version: string;
  /** Go module with pinned dependencies in `tools/`, where `go install` cannot build it (its go.mod has replacements). */
  readonly folder: string | null;
  /** Main package. */
  readonly package: string;
  readonly flags?: string;
}

const kubernetes = "1.34.10";

/** Versions that are known to work together (and with Debian's containerd 1.6). */
const tools = {
  kube: {
    version: kubernetes,
    folder: "kubernetes",
    package: ".",
    flags: ["gitVersion=v" + kubernetes, "gitMajor=1", "gitMinor=34"]
      .map((setting) => ` -X k8s.io/component-base/version.${setting}`)
      .join(""),
  },
  etcd: { version: "3.6.14", folder: "etcd", package: "go.etcd.io/etcd/server/v3" },
  kwok: { version: "0.8.0", folder: null, package: "sigs.k8s.io/kwok/cmd/kwok" },
  versitygw: { version: "1.7.0", folder: null, package: "github.com/versity/versitygw/cmd/versitygw" },
  kueue: { version: "0.18.3", folder: "kueue", package: "sigs.k8s.io/kueue/cmd/kueue" },
  jobset: { version: "0.12.0", folder: "jobset", package: "sigs.k8s.io/jobset" },
} as const satisfies Record<string, Tool>;

export type ToolName = keyof typeof tools;

/** Names that the Kubernetes program answers to. */
export type KubernetesProgram = "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" | "kubelet" | "kubectl";

function cacheFolder(): string {
  const base = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return process.env["DRYDOCK_TOOLS"] ?? join(base, "drydock", "tools");
}

/** Path of a program; built when it is missing. @throws Error with the compiler's words */
export async function ensureTool(name: ToolName, tell: (line: string) => void = () => {}): Promise<string> {
  const tool: Tool = tools[name];
  const folder = join(cacheFolder(), `${name}-${tool.version}`);
  const program = join(folder, name);
  if (await exists(program)) return program;
  await mkdir(folder, { recursive: true });
  const building = await mkdtemp(join(folder, "building-"));
  const startedAtMs = performance.now();
  tell(`building ${name} ${tool.version} …`);
  try {
    await build(tool, name, building);
    await rename(join(building, name), program);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  tell(`built ${name} in ${Math.round((performance.now() - startedAtMs) / 1000)} s`);
  return program;
}

async function build(tool: Tool, name: string, building: string): Promise<void> {
  const options = { maxBuffer: 1 << 26, env: { ...process.env, CGO_ENABLED: "0", GOBIN: building } };
  const flags = ["-trimpath", "-ldflags", `${stripped}${tool.flags ?? ""}`];
  if (tool.folder === null) {
    await run("go", ["install", ...flags, `${tool.package}@v${tool.version}`], options);
    return;
  }
  const module = join(building, "module");
  await cp(join(import.meta.dirname, "tools", tool.folder), module, { recursive: true });
  await run("go", ["build", ...flags, "-o", join(building, name), tool.package], { ...options, cwd: module });
}

/** A folder with the Kubernetes program under each of its names. */
export async function kubernetesPrograms(): Promise<Record<KubernetesProgram, string>> {
  const program = await ensureTool("kube");
  const names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"] as const;
  const links = names.map((name) => [name, join(program, "..", name)] as const);
  for (const [, link] of links) if (!(await exists(link))) await linkOnce(program, link);
  return Object.fromEntries(links) as Record<KubernetesProgram, string>;
}

/** Another process may make the same link at the same time. */
async function linkOnce(program: string, link: string): Promise<void> {
  const own = `${link}.${process.pid}`;
  await symlink(program, own);
  await rename(own, link);
}

/** Folder of a Go module's source: custom resource definitions and other files that programs do not carry. */
export async function moduleFolder(module: string, version: string): Promise<string> {
  const { stdout } = await run("go", ["mod", "download", "-json", `${module}@v${version}`]);
  return (JSON.parse(stdout) as { Dir: string }).Dir;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

if (import.meta.main)
  for (const name of Object.keys(tools) as ToolName[]) await ensureTool(name, (line) => console.log(line));
