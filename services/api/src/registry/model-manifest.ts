import { canonicalJson, digestOf, isSignedBy, sha256, type Ed25519Signer } from "@drydock/kit";
import type { CheckedManifest, ModelFile, ModelManifest, ModelProblem, SignedManifest } from "@drydock/spec";
import type { ModelRow } from "../store/model-store.ts";

/** What a manifest says of a version. */
export type ManifestContent = Pick<ModelRow, "name" | "version" | "kind" | "files" | "lineage" | "createdAt">;

/** @param createdBy  who submitted the run that made the version */
export function manifestOf(
  { name, version, kind, files, lineage, createdAt }: ManifestContent,
  createdBy: string,
): ModelManifest {
  return {
    format: "drydock-model-manifest/1",
    name,
    version,
    kind,
    files: byName(files),
    lineage,
    createdBy,
    createdAt: createdAt.toISOString(),
  };
}

export function signManifest(manifest: ModelManifest, signer: Ed25519Signer, now: Date): SignedManifest {
  const text = canonicalJson(manifest);
  const { keyId, value } = signer.sign(text);
  return {
    manifest,
    digest: sha256(text),
    signature: { algorithm: "ed25519", keyId, value, signedAt: now.toISOString() },
  };
}

/** What is wrong with the manifest of a version, before any file is looked at; and the files that it promises. */
export function checkManifest(
  row: ManifestContent & Pick<ModelRow, "manifest">,
  signer: Pick<Ed25519Signer, "keyId" | "publicKey">,
): CheckedManifest {
  const { manifest: signed, files } = row;
  if (signed === null)
    return { manifestDigest: null, keyId: null, files: byName(files), problems: [problem(row, "no_manifest")] };
  const { digest, signature, manifest } = signed;
  return {
    manifestDigest: digest,
    keyId: signature.keyId,
    files: manifest.files,
    problems: problemsOf(row, signed, signer),
  };
}

function problemsOf(
  row: ManifestContent,
  { manifest, digest, signature }: SignedManifest,
  { keyId, publicKey }: Pick<Ed25519Signer, "keyId" | "publicKey">,
): ModelProblem[] {
  if (signature.keyId !== keyId) return [problem(row, "unknown_key", signature.keyId)];
  const text = canonicalJson(manifest);
  if (sha256(text) !== digest || !isSignedBy(publicKey, text, signature.value)) return [problem(row, "signature")];
  const now = manifestOf(row, manifest.createdBy);
  return digestOf(now) === digest ? [] : [problem(row, "changed")];
}

function problem(
  { name, version }: Pick<ManifestContent, "name" | "version">,
  code: Extract<ModelProblem["code"], "no_manifest" | "unknown_key" | "signature" | "changed">,
  keyId = "",
): ModelProblem {
  const model = `${name}@${version}`;
  const again = `POST /v1/models/${name}/versions/${version}/manifest signs it again after its files were checked`;
  const messages = {
    no_manifest: `${model} has no signed manifest, since it was made before there were any: ${again}`,
    unknown_key: `the manifest of ${model} was signed with the key ${keyId}, which is not this deployment's: if the key was replaced on purpose, ${again}`,
    signature: `the signature does not fit the manifest of ${model}: it was changed after it was signed; make the model again from its lineage`,
    changed: `what is recorded of ${model} is not what was signed: its row was changed in the database; make the model again from its lineage`,
  };
  return { file: null, code, message: messages[code] };
}

function byName(files: readonly ModelFile[]): ModelFile[] {
  return files.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
