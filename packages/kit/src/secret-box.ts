import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { InvalidError } from "./errors.ts";

const algorithm = "aes-256-gcm";
const nonceBytes = 12;
const tagBytes = 16;

/** Keeps secrets that must be read again, such as keys to sign with, unreadable to whoever has the database alone. */
export class SecretBox {
  readonly #key: Buffer;

  private constructor(key: Buffer) {
    this.#key = key;
  }

  /** The same box for the same secret and purpose. */
  static ofSecret(secret: string, purpose: string): SecretBox {
    return new SecretBox(Buffer.from(hkdfSync("sha256", secret, "", purpose, 32)));
  }

  /** @returns base64 of nonce, tag and cipher text */
  seal(text: string): string {
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv(algorithm, this.#key, nonce);
    const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64");
  }

  /** @throws InvalidError `sealed_with_another_key` */
  open(sealed: string): string {
    const bytes = Buffer.from(sealed, "base64");
    try {
      const decipher = createDecipheriv(algorithm, this.#key, bytes.subarray(0, nonceBytes), {
        authTagLength: tagBytes,
      });
      decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      return Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]).toString("utf8");
    } catch (cause) {
      throw new InvalidError(
        "sealed_with_another_key",
        "the secret was sealed with another key than this server has: was DRYDOCK_INTERNAL_KEY changed? Make a new secret",
        { cause },
      );
    }
  }
}
