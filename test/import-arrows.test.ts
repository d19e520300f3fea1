import { readFileSync, globSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

const root = resolve(import.meta.dirname, "..");

/** Folder → our own packages that it may import at run time. The table of the architecture page, checked. */
const arrows: Readonly<Record<string, readonly string[]>> = {
  "packages/kit": [],
  "packages/spec": ["kit"],
  "packages/data": ["kit", "spec"],
  "packages/engine": ["kit", "spec", "data"],
  proto: [],
  workflows: ["spec"],
  "services/api": ["kit", "spec", "data"],
  "services/controller": ["kit", "spec", "data", "workflows", "proto"],
  "services/worker": ["kit", "spec", "data", "engine", "proto"],
  "services/cli": ["kit", "spec"],
};

/** Libraries that a folder must not touch, even through a type. */
const forbidden: Readonly<Record<string, RegExp>> = {
  "packages/spec": /^(onnxruntime|fastify|@temporalio)/,
  "packages/data": /^(onnxruntime|fastify|@temporalio)/,
  "packages/engine": /^(@temporalio|@kubernetes|fastify|@connectrpc|node:https?$)/,
  "services/worker": /^(@temporalio|@kubernetes|onnxruntime|fastify)/,
  "services/controller": /^(onnxruntime|fastify|drizzle|pg$|@electric-sql)/,
  "services/api": /^(onnxruntime|@kubernetes|@temporalio\/worker)/,
  "services/cli": /^(onnxruntime|@temporalio|fastify|drizzle)/,
  workflows: /^(node:|onnxruntime|fastify)/,
};

interface Import {
  readonly file: string;
  readonly specifier: string;
  readonly isTypeOnly: boolean;
}

function importsOf(folder: string): Import[] {
  const files = globSync("**/*.ts", { cwd: join(root, folder), exclude: (name) => name.includes("node_modules") });
  return files.flatMap((name) => {
    const file = join(folder, name);
    const text = readFileSync(join(root, file), "utf8");
    const statements = text.matchAll(
      /^\s*(?:import|export)\s+(type\s+)?(?:[\w*{},\s$]+\s+from\s+)?["']([^"']+)["']|import\(\s*["']([^"']+)["']/gm,
    );
    return [...statements].map(([, type, named, dynamic]) => ({
      file,
      specifier: named ?? dynamic ?? "",
      isTypeOnly: type !== undefined,
    }));
  });
}

test.each(Object.entries(arrows))("%s imports only what its arrow allows", (folder, allowed) => {
  const bad = importsOf(folder).filter(({ file, specifier }) => {
    if (specifier.startsWith(".")) {
      const target = relative(root, resolve(root, dirname(file), specifier));
      const isGoldenForTest = file.endsWith(".test.ts") && target.startsWith("test/");
      return !target.startsWith(`${folder}/`) && !isGoldenForTest;
    }
    const own = /^@drydock\/([\w-]+)/.exec(specifier)?.[1];
    return own !== undefined && own !== folder.split("/").at(-1) && !allowed.includes(own);
  });
  expect(bad).toEqual([]);
});

test.each(Object.entries(forbidden))("%s stays free of the libraries that are not its job", (folder, pattern) => {
  const bad = importsOf(folder).filter(({ file, specifier }) => pattern.test(specifier) && !file.endsWith(".test.ts"));
  expect(bad).toEqual([]);
});

test("workflows import activities only as types", () => {
  const bad = importsOf("workflows").filter(
    ({ file, specifier, isTypeOnly }) => specifier.includes("controller") && !isTypeOnly && !file.endsWith(".test.ts"),
  );
  expect(bad).toEqual([]);
});
