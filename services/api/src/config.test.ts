import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { apiConfigOf } from "./config.ts";

const environment = { DRYDOCK_INTERNAL_KEY: "internal-key-of-a-test" };

test("the signing key comes from the environment, else from its file, else from nowhere", () => {
  const folder = mkdtempSync(join(tmpdir(), "drydock-api-config-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "key.pem");
  writeFileSync(path, "in a file");
  const keyOf = (more: Record<string, string>) => apiConfigOf({ ...environment, ...more }).signingKey;
  expect(keyOf({ DRYDOCK_SIGNING_KEY: "given", DRYDOCK_SIGNING_KEY_FILE: path })).toBe("given");
  expect(keyOf({ DRYDOCK_SIGNING_KEY_FILE: path })).toBe("in a file");
  expect(keyOf({})).toBeUndefined();
  expect(() => keyOf({ DRYDOCK_SIGNING_KEY_FILE: join(folder, "none.pem") })).toThrow(
    /DRYDOCK_SIGNING_KEY_FILE: .*none\.pem cannot be read .* make a key there with `openssl genpkey -algorithm ed25519 -out/,
  );
});
