import { generateKeyPairSync } from "node:crypto";
import { existsSync, linkSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The key that signs the manifests of models: made at the first start, then kept. The file is its owner's alone. */
export function signingKeyFile(stateFolder: string): string {
  const path = join(stateFolder, "signing-key.pem");
  if (existsSync(path)) return path;
  const { privateKey } = generateKeyPairSync("ed25519");
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, privateKey.export({ type: "pkcs8", format: "pem" }), { mode: 0o600 });
  // Appears whole or not at all: half a key would be none, for ever.
  linkSync(temporary, path);
  rmSync(temporary);
  return path;
}
