import { randomBytes } from "node:crypto";

const secretBytes = 32;

/** A secret to sign with, as Standard Webhooks writes it. */
export function newWebhookSecret(): string {
  return `whsec_${randomBytes(secretBytes).toString("base64")}`;
}
