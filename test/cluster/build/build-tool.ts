import { execFile } from "node:child_process";
import { access, cp, mkdir, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";
import { withFileLock } from "./file-lock.ts";
import { programOf, toolFolder, tools, type Tool, type ToolName } from "./tools.ts";

const run = promisify(execFile);

/**
 * Builds a tool into the tool cache unless it is there. Two builders do not race: the second waits for the first and
 * finds its work. Each part appears whole, by renaming.
 *
 * @returns the path of its program
 * @throws when there is no Go, or the build fails; the message has the last lines of its output
 */
export async function ensureTool(name: ToolName, tell: (line: string) => void = () => {}): Promise<string> {
  const program = programOf(name);
  if (await isComplete(name)) return program;
  await mkdir(toolFolder(name), { recursive: true });
  await withFileLock(join(toolCache(), `${name}.lock`), async () => {
    if (await isComplete(name)) return;
    tell(`building ${name} ${tools[name].version} from its Go module, once …`);
    const start = performance.now();
    await build(tools[name], toolFolder(name));
    tell(`built ${name} ${tools[name].version} in ${((performance.now() - start) / 1000).toFixed(0)} s`);
  });
  return program;
}

async function isComplete(name: ToolName): Promise<boolean> {
  const parts = [tools[name].program, ...tools[name].links, ...tools[name].moduleFolders];
  const found = await Promise.all(parts.map((part) => exists(join(toolFolder(name), part))));
  return found.every(Boolean);
}

async function build(tool: Tool, folder: string): Promise<void> {
  const building = await mkdtemp(join(folder, "building-"));
  try {
    const program = join(folder, tool.program);
    if (!(await exists(program))) {
      await compile(tool, building);
      await rename(join(building, tool.program), program);
    }
    for (const link of tool.links)
      if (!(await exists(join(folder, link)))) await symlink(tool.program, join(folder, link));
    for (const part of tool.moduleFolders) {
      if (await exists(join(folder, part))) continue;
      await cp(join(await moduleFolder(tool), part), join(building, part), { recursive: true });
      await makeWritable(building); // the module cache is read-only; what is copied from it can be removed again
      await mkdir(dirname(join(folder, part)), { recursive: true });
      await rename(join(building, part), join(folder, part));
    }
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

async function compile(tool: Tool, into: string): Promise<void> {
  const flags = ["-trimpath", "-ldflags", tool.linkerFlags];
  if (tool.hasOwnModule)
    await go(["build", ...flags, "-o", join(into, tool.program), tool.package], { folder: moduleSource(tool) });
  else await go(["install", ...flags, `${tool.package}@v${tool.version}`], { folder: into, binaries: into });
}

async function moduleFolder(tool: Tool): Promise<string> {
  const folder = tool.hasOwnModule ? moduleSource(tool) : toolCache();
  const output = await go(["mod", "download", "-json", `${tool.module}@v${tool.version}`], { folder });
  return (JSON.parse(output) as { Dir: string }).Dir;
}

function moduleSource(tool: Tool): string {
  return join(import.meta.dirname, tool.name);
}

async function go(args: readonly string[], { folder, binaries }: { folder: string; binaries?: string }) {
  const environment = { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "local" };
  const { stdout } = await run("go", args, {
    cwd: folder,
    env: binaries === undefined ? environment : { ...environment, GOBIN: binaries },
    maxBuffer: 1 << 26,
  });
  return stdout;
}

async function makeWritable(folder: string): Promise<void> {
  await run("chmod", ["-R", "u+w", folder]);
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
