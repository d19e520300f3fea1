import { createHash } from "node:crypto";
import { readFile, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";

const here = import.meta.dirname;
const entries = await readdir(here, { withFileTypes: true });
const families = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith("__")).map(({ name }) => name);

interface MadeBy {
  readonly scripts: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<string, string>>;
}

async function digests(folder: string, names: Iterable<string>): Promise<Record<string, string>> {
  const digest = async (name: string): Promise<[string, string]> => [
    name,
    createHash("sha256")
      .update(await readFile(join(folder, name)))
      .digest("hex"),
  ];
  return Object.fromEntries(await Promise.all(Array.from(names, digest)));
}

test.each(families)(
  "the files of %s are what its script made, and the script is the one that made them",
  async (family) => {
    const folder = join(here, family);
    const madeBy = JSON.parse(await readFile(join(folder, "made-by.json"), "utf8")) as MadeBy;
    const say = `run \`make golden\`: test/golden/parity/${family} and its scripts disagree`;
    expect(await digests(resolve(here, ".."), Object.keys(madeBy.scripts)), say).toEqual(madeBy.scripts);
    const found = await readdir(folder, { withFileTypes: true, recursive: true });
    const files = found
      .filter((entry) => entry.isFile() && entry.name !== "made-by.json")
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
    expect(await digests(folder, files), say).toEqual(madeBy.files);
  },
);
