import { expect, test } from "vitest";
import { SecretBox } from "./secret-box.ts";

test("what was sealed is opened by the same secret and purpose, and by no other", () => {
  const box = SecretBox.ofSecret("internal key", "webhooks");
  const sealed = box.seal("whsec_ä");
  expect(sealed).not.toContain("whsec");
  expect(box.seal("whsec_ä")).not.toBe(sealed);
  expect(SecretBox.ofSecret("internal key", "webhooks").open(sealed)).toBe("whsec_ä");
  for (const other of [SecretBox.ofSecret("internal key", "other"), SecretBox.ofSecret("another", "webhooks")])
    expect(() => other.open(sealed)).toThrow("was DRYDOCK_INTERNAL_KEY changed?");
});

test("a sealed secret that was changed or cut is refused", () => {
  const box = SecretBox.ofSecret("internal key", "webhooks");
  const bytes = Buffer.from(box.seal("secret"), "base64");
  bytes[bytes.length - 1] = bytes.readUInt8(bytes.length - 1) ^ 1;
  for (const damaged of [bytes.toString("base64"), bytes.subarray(0, 20).toString("base64"), ""])
    expect(() => box.open(damaged)).toThrow("sealed with another key");
});
