import { UnprocessableError, checkStoredFiles, type Ed25519Signer, type ObjectStorage } from "@drydock/kit";
import {
  damageOf,
  verificationOf,
  type CheckedManifest,
  type ModelVerification,
  type SignedManifest,
} from "@drydock/spec";
import { and, eq } from "drizzle-orm";
import { refuseRemoved } from "../planning/model-directory.ts";
import type { Database } from "../store/database.ts";
import { modelNotFound, type ModelRow } from "../store/model-store.ts";
import { models } from "../store/schema.ts";
import { checkManifest } from "./model-manifest.ts";

export interface ModelVerifierOptions {
  readonly database: Database;
  readonly storage: ObjectStorage;
  readonly signer: Ed25519Signer;
}

/**
 * Compares models with their signed manifests. Files are streamed from object storage and hashed, one model at a time in this process,
 * so that several requests do not share the disk or the line to storage.
 */
export class ModelVerifier {
  readonly #options: ModelVerifierOptions;
  /** Ends when the verification before has. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: ModelVerifierOptions) {
    this.#options = options;
  }

  /** The manifest of a version, and what is wrong with it; its files are not looked at. @throws NotFoundError `model_not_found` */
  async manifest(name: string, version: number): Promise<{ signed: SignedManifest | null; checked: CheckedManifest }> {
    const row = await this.#row(name, version);
    return { signed: row.manifest, checked: checkManifest(row, this.#options.signer) };
  }

  /** @throws NotFoundError `model_not_found`; ConflictError `model_files_removed`; UnavailableError when storage does not answer */
  async verify(name: string, version: number): Promise<ModelVerification> {
    const row = await this.#row(name, version);
    refuseRemoved({ name, version, filesRemovedAt: row.filesRemovedAt?.toISOString() ?? null });
    const checked = checkManifest(row, this.#options.signer);
    const damaged = await this.#inTurn(
      async () =>
        await checkStoredFiles(
          this.#options.storage,
          `models/${name}/${version}/`,
          checked.files,
          `${name}@${version}`,
        ),
    );
    return verificationOf({ name, version }, checked, damaged);
  }

  async #row(name: string, version: number): Promise<ModelRow> {
    const [row] = await this.#options.database
      .select()
      .from(models)
      .where(and(eq(models.name, name), eq(models.version, version)));
    if (row === undefined) throw modelNotFound(name, version);
    return row;
  }

  async #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await turn;
    try {
      return await work();
    } finally {
      resolve();
    }
  }
}

/**
 * Refuses a version whose files or manifest are not as they should be.
 *
 * @throws UnprocessableError `model_damaged` with each problem as a detail
 */
export function requireSound(verification: ModelVerification): void {
  const damage = damageOf(verification);
  if (damage === null) return;
  throw new UnprocessableError("model_damaged", damage, {
    details: verification.problems.map(({ file, code, message }) => ({ path: file ?? "manifest", code, message })),
  });
}
