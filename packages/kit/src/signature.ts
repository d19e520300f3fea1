import { createPrivateKey, createPublicKey, hkdfSync, sign, verify, type KeyObject } from "node:crypto";
import { sha256 } from "./canonical-json.ts";
import { InvalidError, messageOf } from "./errors.ts";

/** A signature, and which key made it. */
export interface Signature {
  readonly keyId: string;
  /** base64 */
  readonly value: string;
}

/** Whoever has the public key can tell what this key has signed. */
export class Ed25519Signer {
  readonly #key: KeyObject;
  /** First half of the public key's SHA-256. */
  readonly keyId: string;
  /** PEM of the SubjectPublicKeyInfo. */
  readonly publicKey: string;

  private constructor(key: KeyObject) {
    this.#key = key;
    this.publicKey = createPublicKey(key).export({ type: "spki", format: "pem" }).toString();
    this.keyId = keyIdOf(this.publicKey);
  }

  /** @throws InvalidError `bad_signing_key` */
  static ofPem(pem: string): Ed25519Signer {
    let key: KeyObject;
    try {
      // Environment variables often carry a key with its line breaks escaped.
      key = createPrivateKey(pem.replaceAll("\\n", "\n"));
    } catch (error) {
      throw new InvalidError("bad_signing_key", `the signing key cannot be read (${messageOf(error)}): ${remedy}`, {
        cause: error,
      });
    }
    if (key.asymmetricKeyType === "ed25519") return new Ed25519Signer(key);
    throw new InvalidError(
      "bad_signing_key",
      `the signing key is of type ${key.asymmetricKeyType ?? "unknown"}, and must be Ed25519: ${remedy}`,
    );
  }

  /** The same key for the same secret. */
  static ofSecret(secret: string, purpose: string): Ed25519Signer {
    const seed = Buffer.from(hkdfSync("sha256", secret, "", purpose, 32));
    // RFC 8410: the seed in its PKCS #8 envelope.
    const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
    return new Ed25519Signer(createPrivateKey({ key: der, format: "der", type: "pkcs8" }));
  }

  sign(text: string): Signature {
    return { keyId: this.keyId, value: sign(null, Buffer.from(text), this.#key).toString("base64") };
  }
}

const remedy = "make one with `openssl genpkey -algorithm ed25519`";

/** @param publicKey  PEM of the SubjectPublicKeyInfo */
export function isSignedBy(publicKey: string, text: string, signature: string): boolean {
  return verify(null, Buffer.from(text), createPublicKey(publicKey), Buffer.from(signature, "base64"));
}

/** How a public key is named in what it signed: half of its SHA-256. */
export function keyIdOf(publicKey: string): string {
  const der = createPublicKey(publicKey).export({ type: "spki", format: "der" });
  return sha256(new Uint8Array(der)).slice(0, 32);
}
