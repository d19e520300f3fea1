import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ed25519Signer } from "@drydock/kit";
import { expect, onTestFinished, test } from "vitest";
import { signingKeyFile } from "./signing-key.ts";

test("the first start makes a key, the next ones keep it, and nobody else can read it", () => {
  const folder = mkdtempSync(join(tmpdir(), "drydock-signing-key-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const path = signingKeyFile(folder);
  const { keyId } = Ed25519Signer.ofPem(readFileSync(path, "utf8"));
  expect(Ed25519Signer.ofPem(readFileSync(signingKeyFile(folder), "utf8")).keyId).toBe(keyId);
  expect(statSync(path).mode & 0o077).toBe(0);
});
