import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { inMemory, useApi } from "../test/support/api.ts";
import { openApiText } from "../test/support/openapi-text.ts";

const api = useApi(inMemory);

/** Every value below `node` whose key is `key`. */
function valuesOf(node: unknown, key: string): unknown[] {
  if (typeof node !== "object" || node === null) return [];
  return Object.entries(node).flatMap(([name, value]) => (name === key ? [value] : valuesOf(value, key)));
}

test("openapi.json is what the routes say: run `npm run openapi --workspace @drydock/api` after a change", async () => {
  const committed = await readFile(join(import.meta.dirname, "..", "openapi.json"), "utf8");
  expect(await openApiText()).toBe(committed);
});

test("the document is OpenAPI 3.1 whose references resolve and whose operations have names of their own", async () => {
  const document = await api().ok<{ openapi: string; paths: object; components: { schemas: object } }>(
    "GET",
    "/openapi.json",
  );
  expect(document.openapi).toBe("3.1.0");
  const references = valuesOf(document, "$ref").map((reference) =>
    String(reference).replace("#/components/schemas/", ""),
  );
  expect(references.filter((name) => !(name in document.components.schemas))).toEqual([]);
  const names = valuesOf(document.paths, "operationId");
  expect(new Set(names).size).toBe(names.length);
  expect(Object.keys(document.paths).filter((path) => path.startsWith("/internal"))).toEqual([]);
});

test("/docs works without a connection: its page loads only what this server has", async () => {
  const page = await api().send("GET", "/docs/", { key: null });
  expect(page.statusCode).toBe(200);
  expect(page.body).not.toMatch(/(?:src|href)="https?:/);
  const scripts = [...page.body.matchAll(/<script src="([^"]+)"/g)].map(([, source]) => source!);
  expect(scripts).toEqual(["js/scalar.js"]);
  expect((await api().send("GET", "/docs/js/scalar.js", { key: null })).statusCode).toBe(200);
  expect((await api().send("GET", "/docs/openapi.json", { key: null })).json()).toMatchObject({ openapi: "3.1.0" });
});
