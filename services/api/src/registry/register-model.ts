import type { Ed25519Signer } from "@drydock/kit";
import type { Model, ModelRegistration } from "@drydock/spec";
import { and, eq } from "drizzle-orm";
import type { Database } from "../store/database.ts";
import { ModelStore, type ModelRow } from "../store/model-store.ts";
import { models, runEvents } from "../store/schema.ts";
import { appendModelEvent } from "./model-history.ts";
import { checkManifest, manifestOf, signManifest } from "./model-manifest.ts";

/** Who is named in manifests of runs that nobody knows any more. */
const unknownActor = "unknown";

/** Takes in a version that a run made: its row, its signed manifest and the first event of its history. May be repeated. */
export async function registerModel(
  database: Database,
  signer: Ed25519Signer,
  registration: ModelRegistration,
): Promise<Model> {
  return await database.transaction(async (tx) => {
    const store = new ModelStore(tx);
    const { name, version, lineage } = await store.register(registration);
    const actor = await submitterOf(tx, lineage.runId);
    const row = await rowOf(tx, name, version);
    // A registration that is said again has the same files: what was signed stays as it is.
    if (checkManifest(row, signer).problems.length > 0) await writeManifest(tx, row, signer, actor);
    await appendModelEvent(tx, {
      name,
      version,
      key: `registered/${version}`,
      actor: "controller",
      type: "model.registered",
      from: null,
      to: "candidate",
      message: `Run ${lineage.runId} made it from ${lineage.base} and ${lineage.dataset}.`,
    });
    return await store.get(name, version);
  });
}

/** Signs what is recorded of a version, again, in the caller's transaction. Its files must have been checked. */
export async function signAgain(
  tx: Database,
  signer: Ed25519Signer,
  { name, version, actor, key }: { readonly name: string; readonly version: number; actor: string; key: string },
): Promise<void> {
  const row = await rowOf(tx, name, version);
  const signed = await writeManifest(
    tx,
    row,
    signer,
    row.manifest?.manifest.createdBy ?? (await submitterOf(tx, row.lineage.runId)),
  );
  await appendModelEvent(tx, {
    name,
    version,
    key,
    actor,
    type: "manifest.signed",
    from: row.manifest?.signature.keyId ?? null,
    to: signed,
    message: `The manifest was signed with the key ${signed}.`,
  });
}

/** @returns the id of the key */
async function writeManifest(tx: Database, row: ModelRow, signer: Ed25519Signer, createdBy: string): Promise<string> {
  const manifest = signManifest(manifestOf(row, createdBy), signer, new Date());
  await tx
    .update(models)
    .set({ manifest, revision: row.revision + 1 })
    .where(and(eq(models.name, row.name), eq(models.version, row.version)));
  return manifest.signature.keyId;
}

/** The row of a version that is known to be there, locked. */
export async function rowOf(tx: Database, name: string, version: number): Promise<ModelRow> {
  const [row] = await tx
    .select()
    .from(models)
    .where(and(eq(models.name, name), eq(models.version, version)))
    .for("update");
  return row!;
}

async function submitterOf(tx: Database, runId: string): Promise<string> {
  const [row] = await tx
    .select({ actor: runEvents.actor })
    .from(runEvents)
    .where(and(eq(runEvents.runId, runId), eq(runEvents.key, "submitted")));
  return row?.actor ?? unknownActor;
}
