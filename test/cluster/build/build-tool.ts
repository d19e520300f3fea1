import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, mkdir, mkdtemp, readFile, readdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { toolCache } from "../../../services/cli/src/up/temporal-server.ts";
import { withFileLock } from "./file-lock.ts";
import { programOf, toolFolder, tools, type Tool, type ToolName } from "./tools.ts";

const run = promisify(execFile);

/**
 * Builds a tool into the tool cache unless it is there. Two builders do not race: the second waits for the first and
 * finds its work.
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

/** File beside the program that says from what it was built. Written last: without it the tool is not there. */
const recipeFile = "recipe.json";

async function isComplete(name: ToolName): Promise<boolean> {
  try {
    return (await readFile(join(toolFolder(name), recipeFile), "utf8")) === (await recipeOf(tools[name]));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
    throw error;
  }
}

/** All that decides what a build gives: the table's line, and the module beside this file. */
async function recipeOf(tool: Tool): Promise<string> {
  const hash = createHash("sha256");
  if (tool.hasOwnModule)
    for (const file of (await readdir(moduleSource(tool))).toSorted())
      hash.update(`${file}\n`).update(await readFile(join(moduleSource(tool), file)));
  return JSON.stringify({ ...tool, sources: hash.digest("hex") });
}

async function build(tool: Tool, folder: string): Promise<void> {
  const building = await mkdtemp(join(folder, "building-"));
  try {
    await compile(tool, building);
    for (const link of tool.links) await symlink(tool.program, join(building, link));
    const source = tool.moduleFolders.length > 0 ? await moduleFolder(tool) : "";
    for (const part of tool.moduleFolders) {
      await mkdir(dirname(join(building, part)), { recursive: true });
      await cp(join(source, part), join(building, part), { recursive: true });
    }
    await run("chmod", ["-R", "u+w", building]); // the module cache is read-only; copies can be removed again
    await writeFile(join(building, recipeFile), await recipeOf(tool));
    await replaceParts(tool, building, folder);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

/** Each part is renamed into place, so that a program that runs from the folder goes on. The recipe comes last. */
async function replaceParts(tool: Tool, building: string, folder: string): Promise<void> {
  for (const part of tool.moduleFolders) {
    await rm(join(folder, part), { recursive: true, force: true });
    await mkdir(dirname(join(folder, part)), { recursive: true });
    await rename(join(building, part), join(folder, part));
  }
  for (const file of [tool.program, ...tool.links, recipeFile]) await rename(join(building, file), join(folder, file));
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
