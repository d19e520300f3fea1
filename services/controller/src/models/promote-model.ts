import { InvalidError, checkStoredFiles, type ObjectStorage } from "@drydock/kit";
import {
  damageOf,
  verificationOf,
  type ModelVerification,
  type PromotionOrder,
  type PromotionResult,
} from "@drydock/spec";
import type { RegistryApi } from "../registry-api.ts";

export interface PromotionDependencies {
  readonly registry: RegistryApi;
  readonly storage: ObjectStorage;
}

/** A version by its number. */
export interface NumberedModel {
  readonly name: string;
  readonly version: number;
}

/**
 * Compares a version's files in storage with its signed manifest. Gigabytes are read here, in an activity that heartbeats and is tried
 * again, and not in a request of the api; the api says whether the manifest is its own and unchanged.
 *
 * @param onProgress  called while reading, with the bytes read so far
 * @throws NotFoundError when there is no such version; UnavailableError when storage or the api does not answer
 */
export async function verifyModelFiles(
  { registry, storage }: PromotionDependencies,
  { name, version }: NumberedModel,
  onProgress?: (bytesRead: number) => void,
): Promise<ModelVerification> {
  const checked = await registry.manifest(name, version);
  const prefix = `models/${name}/${version}/`;
  const damaged = await checkStoredFiles(storage, prefix, checked.files, `${name}@${version}`, onProgress);
  return verificationOf({ name, version }, checked, damaged);
}

/**
 * Verifies a version and puts it into production. Safe to repeat with the same key.
 *
 * @throws InvalidError `model_damaged` with a sentence that names each file, or `api_refused`
 */
export async function promoteVerified(
  dependencies: PromotionDependencies,
  { name, version, ...order }: NumberedModel & Omit<PromotionOrder, "verification">,
  onProgress?: (bytesRead: number) => void,
): Promise<PromotionResult> {
  const verification = await verifyModelFiles(dependencies, { name, version }, onProgress);
  const damage = damageOf(verification);
  if (damage !== null) throw new InvalidError("model_damaged", damage);
  return await dependencies.registry.promote(name, version, { ...order, verification });
}
