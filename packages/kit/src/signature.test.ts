import { generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import { Ed25519Signer, isSignedBy, keyIdOf } from "./signature.ts";

test("what a key signed is known by its public half, and nothing else is", () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const signer = Ed25519Signer.ofPem(privateKey.export({ type: "pkcs8", format: "pem" }).toString());
  const { value, keyId } = signer.sign("a text");
  expect(isSignedBy(signer.publicKey, "a text", value)).toBe(true);
  expect(isSignedBy(signer.publicKey, "another text", value)).toBe(false);
  expect(isSignedBy(Ed25519Signer.ofSecret("s", "p").publicKey, "a text", value)).toBe(false);
  expect(isSignedBy(signer.publicKey, "a text", "nonsense")).toBe(false);
  expect(keyId).toBe(keyIdOf(signer.publicKey));
});

test("a key that was made from a secret is the same each time, and another for another purpose", () => {
  expect(Ed25519Signer.ofSecret("secret", "manifests").keyId).toBe(Ed25519Signer.ofSecret("secret", "manifests").keyId);
  expect(Ed25519Signer.ofSecret("secret", "manifests").keyId).not.toBe(Ed25519Signer.ofSecret("secret", "other").keyId);
});

test("line breaks may be escaped, as environment variables have them", () => {
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  expect(Ed25519Signer.ofPem(pem.replaceAll("\n", "\\n")).keyId).toBe(Ed25519Signer.ofPem(pem).keyId);
});

test("a key of another kind, or none, is refused with what to do", () => {
  const { privateKey } = generateKeyPairSync("x25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  expect(() => Ed25519Signer.ofPem(pem)).toThrow(
    "the signing key is of type x25519, and must be Ed25519: make one with `openssl genpkey -algorithm ed25519`",
  );
  expect(() => Ed25519Signer.ofPem("no key")).toThrow(/the signing key cannot be read .* make one with `openssl/);
});
