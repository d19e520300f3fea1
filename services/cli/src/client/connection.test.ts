import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { findConnection } from "./connection.ts";

const root = mkdtempSync(join(tmpdir(), "drydock-connection-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

function folderWith(connection: string | null): string {
  const folder = mkdtempSync(join(root, "home-"));
  mkdirSync(join(folder, ".drydock"));
  if (connection !== null) writeFileSync(join(folder, ".drydock", "connection.json"), connection);
  return folder;
}

const written = JSON.stringify({ url: "http://127.0.0.1:7420/", key: "from-file" });

test("flags win over the environment, which wins over the file", () => {
  const folder = folderWith(written);
  const environment = { DRYDOCK_URL: "http://environment", DRYDOCK_API_KEY: "e" };
  expect(findConnection({ url: "http://flag", key: "f" }, environment, folder)).toEqual({
    url: "http://flag",
    key: "f",
  });
  expect(findConnection({}, environment, folder)).toEqual({ url: "http://environment", key: "e" });
  expect(findConnection({}, {}, folder)).toEqual({ url: "http://127.0.0.1:7420", key: "from-file" });
});

test("the file is found from a folder below", () => {
  const folder = folderWith(written);
  mkdirSync(join(folder, "a", "b"), { recursive: true });
  expect(findConnection({}, {}, join(folder, "a", "b")).key).toBe("from-file");
});

test.each([
  ["no server at all", {}, null, "start one with `drydock up`"],
  ["a URL without a key", { url: "http://x" }, null, "no key for http://x"],
  ["a file that is cut", {}, '{"url": "http', "start `drydock up` again"],
  ["a URL that is none", { url: "localhost:7420", key: "k" }, null, "not an http or https URL"],
])("%s is said in a sentence", (_name, options, file, sentence) => {
  expect(() => findConnection(options, {}, folderWith(file))).toThrow(sentence);
});
