import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { expect, test } from "vitest";
import { exitCodeTable } from "./exit-codes.ts";
import { createProgram } from "./program.ts";

const guide = readFileSync(join(import.meta.dirname, "../../../docs/guides/cli.md"), "utf8");

function leaves(command: Command, path: string): string[] {
  const name = `${path}${path === "" ? "" : " "}${command.name()}`;
  return command.commands.length === 0 ? [name] : command.commands.flatMap((child) => leaves(child, name));
}

test("the guide lists exactly the commands that there are", () => {
  const listed = [...guide.matchAll(/^\| `(drydock [a-z -]+)` +\|/gm)].map(([, name]) => name);
  expect(new Set(listed)).toEqual(new Set(leaves(createProgram(), "")));
});

test("the guide lists exactly the exit codes that there are", () => {
  const listed = [...guide.matchAll(/^\| +(\d+) +\| (.*?) +\|$/gm)].map(([, code, meaning]) => [Number(code), meaning]);
  expect(listed).toEqual(exitCodeTable.map(([code, meaning]) => [code, meaning]));
});

test("help ends with the exit codes", () => {
  let text = "";
  createProgram()
    .configureOutput({ writeOut: (part) => (text += part) })
    .outputHelp();
  expect(text).toContain("  64  a spec, a file or a value is refused");
});
