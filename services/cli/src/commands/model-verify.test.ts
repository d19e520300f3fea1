import { Ed25519Signer, canonicalJson, sha256 } from "@drydock/kit";
import type { ModelManifest, SignedManifest, SigningKey } from "@drydock/spec";
import { expect, test } from "vitest";
import { checkSignature } from "./model-verify.ts";

const manifest: ModelManifest = {
  format: "drydock-model-manifest/1",
  name: "weld",
  version: 3,
  kind: "adapter",
  files: [{ name: "a", sizeBytes: 1, sha256: "0" }],
  lineage: {
    base: "qwen3-vl-2b",
    baseDigest: null,
    runId: "run_1",
    step: 1,
    dataset: "weld@1",
    datasetDigest: null,
    mode: "lora",
    planDigest: "p",
    scores: { before: null, after: { "f1@0.5": 61.25 } },
  },
  createdBy: "key_1",
  createdAt: "2026-11-23T00:00:00.000Z",
};

function signed(content: ModelManifest, signer: Ed25519Signer): SignedManifest {
  const text = canonicalJson(content);
  const signature = { algorithm: "ed25519" as const, ...signer.sign(text), signedAt: manifest.createdAt };
  return { manifest: content, digest: sha256(text), signature };
}

const signer = Ed25519Signer.ofSecret("secret", "test");
const key: SigningKey = { algorithm: "ed25519", keyId: signer.keyId, publicKey: signer.publicKey };

test("a manifest that the server's key signed is taken", () => {
  expect(() => checkSignature(signed(manifest, signer), key)).not.toThrow();
});

test("a changed manifest, or another key's signature, is not", () => {
  const changed = { ...signed(manifest, signer), manifest: { ...manifest, version: 4 } };
  expect(() => checkSignature(changed, key)).toThrow(
    `the signature of weld@4 does not fit the server's key ${key.keyId}: do not use the model, and ask who runs the server`,
  );
  const other = Ed25519Signer.ofSecret("another", "test");
  expect(() => checkSignature(signed(manifest, other), key)).toThrow("does not fit the server's key");
  const disguised = {
    ...signed(manifest, other),
    signature: { ...signed(manifest, other).signature, keyId: key.keyId },
  };
  expect(() => checkSignature(disguised, key)).toThrow("does not fit the server's key");
});
