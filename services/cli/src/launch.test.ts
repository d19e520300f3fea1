import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-launch-"));
  await writeFile(join(folder, "package.json"), `{"type":"module"}`);
  await copyFile(join(import.meta.dirname, "launch.js"), join(folder, "launch.js"));
  await writeFile(join(folder, "main.ts"), `console.log(process.argv.slice(2).join(" ")); process.exitCode = 3;`);
  // An older Node, as the launcher sees it.
  await writeFile(
    join(folder, "older.cjs"),
    `if (process.argv[1].endsWith("launch.js")) Object.defineProperty(process.versions, "node", { value: "20.20.2" });`,
  );
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

async function launch(...options: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return await new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...options, join(folder, "launch.js"), "run", "list"],
      (_error, stdout, stderr) => resolve({ code: child.exitCode, stdout, stderr }),
    );
  });
}

test("a Node that is new enough runs the program itself", async () => {
  expect(await launch()).toMatchObject({ code: 3, stdout: "run list\n" });
});

test("an older Node hands over to the one that npm installed, with arguments and exit code", async () => {
  await mkdir(join(folder, "node_modules", "node", "bin"), { recursive: true });
  await symlink(process.execPath, join(folder, "node_modules", "node", "bin", "node"));
  expect(await launch("--require", join(folder, "older.cjs"))).toMatchObject({ code: 3, stdout: "run list\n" });
});

test("an older Node alone is one sentence that says what to do", async () => {
  expect(await launch("--require", join(folder, "older.cjs"))).toEqual({
    code: 1,
    stdout: "",
    stderr:
      "drydock needs Node 24 or newer and this is 20.20.2: run npm install in the project's folder, which brings it, or put a newer node on PATH\n",
  });
});
