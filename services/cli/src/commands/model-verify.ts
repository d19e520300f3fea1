import { UnprocessableError, canonicalJson, isSignedBy, keyIdOf, sha256 } from "@drydock/kit";
import type { ModelVerification, SignedManifest, SigningKey } from "@drydock/spec";
import type { Command } from "commander";
import { formatBytes } from "../output/quantities.ts";
import { fields } from "../output/table.ts";
import { contextOf } from "./context.ts";
import { fixedVersion } from "./model-registry.ts";

/** `drydock model verify`: are the files of a model what was signed when it was made? */
export function addVerifyCommand(model: Command): void {
  model
    .command("verify")
    .argument("<model>", "name, name@version or name@alias")
    .option("--sign", "sign it with the server's present key first, after its files were checked (scope admin)")
    .description("compare a model's files in storage with its signed manifest")
    .action(async function (this: Command, reference: string, { sign }: { sign?: boolean }) {
      const context = contextOf(this);
      const { name, version } = await fixedVersion(context, reference);
      const registry = context.registry();
      if (sign) await registry.sign(name, version);
      const verification = await registry.verify(name, version);
      if (verification.isSound)
        // What the server says of its own signature is checked here, too.
        checkSignature(await registry.getManifest(name, version), await registry.getSigningKey());
      context.output.answer(verification, () => describe(verification));
      if (!verification.isSound)
        throw new UnprocessableError(
          "model_damaged",
          `${name}@${version} is not what was signed: ${verification.problems.map(({ message }) => message).join("; ")}`,
        );
    });
}

/** @throws UnprocessableError `bad_signature` */
export function checkSignature({ manifest, digest, signature }: SignedManifest, key: SigningKey): void {
  const text = canonicalJson(manifest);
  const isOurs = signature.keyId === key.keyId && keyIdOf(key.publicKey) === key.keyId;
  if (isOurs && sha256(text) === digest && isSignedBy(key.publicKey, text, signature.value)) return;
  throw new UnprocessableError(
    "bad_signature",
    `the signature of ${manifest.name}@${manifest.version} does not fit the server's key ${key.keyId}: do not use the model, and ask who runs the server`,
  );
}

function describe({ name, version, files, sizeBytes, manifestDigest, keyId, problems }: ModelVerification): string[] {
  return fields({
    model: `${name}@${version}`,
    files: `${files}, ${formatBytes(sizeBytes)}`,
    manifest: manifestDigest,
    key: keyId,
    problems: problems.length === 0 ? "none" : String(problems.length),
  });
}
