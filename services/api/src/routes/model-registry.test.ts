import { generateKeyPairSync } from "node:crypto";
import { join } from "node:path";
import { Ed25519Signer, canonicalJson, isSignedBy, sha256 } from "@drydock/kit";
import type {
  Evaluation,
  Model,
  ModelComparison,
  ModelEvent,
  ModelVerification,
  Run,
  SignedManifest,
  SigningKey,
} from "@drydock/spec";
import { eq, sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { inMemory, onEachDatabase, useApi } from "../../test/support/api.ts";
import { modelContents, registerModel } from "../../test/support/registered-model.ts";
import type { Page } from "../pages.ts";
import { ModelVerifier } from "../registry/model-verifier.ts";
import { models } from "../store/schema.ts";

onEachDatabase("stages, aliases and notes", (location) => {
  const api = useApi(location);
  const stage = async (name: string, version: number, to: string, headers: Record<string, string> = {}) =>
    await api().send("POST", `/v1/models/${name}/versions/${version}/stage`, { body: { to }, headers });
  const refusedStage = async (name: string, version: number, to: string, headers: Record<string, string> = {}) =>
    await api().refused("POST", `/v1/models/${name}/versions/${version}/stage`, { body: { to }, headers });

  test("a version starts as candidate, goes to staging, then to production with its alias, then to the archive", async () => {
    expect(await registerModel(api(), { name: "weld", version: 1 })).toMatchObject({ stage: "candidate", aliases: [] });
    expect((await stage("weld", 1, "staging")).json()).toMatchObject({ stage: "staging", aliases: [] });
    expect((await stage("weld", 1, "production")).json()).toMatchObject({
      stage: "production",
      aliases: ["production"],
    });
    expect(await api().ok("GET", "/v1/models/weld/versions/production")).toMatchObject({ version: 1 });
    expect((await api().ok<Page<Model>>("GET", "/v1/models?stage=production")).items).toHaveLength(1);
    expect((await stage("weld", 1, "archived")).json()).toMatchObject({ stage: "archived", aliases: [] });
    expect(await api().refused("GET", "/v1/models/weld/versions/production")).toMatchObject({
      status: 404,
      detail:
        'model "weld" has no alias "production": list its aliases with GET /v1/models/weld/aliases, or give a version\'s number',
    });
    const { items } = await api().ok<Page<ModelEvent>>("GET", "/v1/models/weld/history?version=1");
    expect(items.map(({ type, from, to }) => [type, from, to])).toEqual([
      ["model.retired", "1", null],
      ["model.promoted", null, "1"],
      ["stage.changed", "candidate", "staging"],
      ["model.registered", null, "candidate"],
    ]);
    expect(items[0]!.message).toBe("weld@1 left production, and no version took its place.");
  });

  test("a stage that cannot be reached is refused with what to do, and asking for what is so changes nothing", async () => {
    await registerModel(api(), { name: "moves", version: 1 });
    const first = await stage("moves", 1, "production");
    expect((await stage("moves", 1, "production")).json<Model>().aliases).toEqual(["production"]);
    expect(first.headers["etag"]).toBe(first.json<Model>().etag);
    expect(await refusedStage("moves", 1, "staging")).toMatchObject({
      status: 422,
      code: "stage_refused",
      detail: "moves@1 is in production and cannot go to staging: promote another version, roll back, or archive it",
    });
    await stage("moves", 1, "archived");
    expect(await refusedStage("moves", 1, "production")).toMatchObject({
      detail:
        "moves@1 is archived and cannot go to production at once: move it to staging first, or roll back if it was the version in production before",
    });
    expect(await refusedStage("moves", 9, "staging")).toMatchObject({ status: 404, code: "model_not_found" });
  });

  test("If-Match guards against a change in between", async () => {
    const { etag } = await registerModel(api(), { name: "guarded", version: 1 });
    expect((await stage("guarded", 1, "staging", { "if-match": etag })).statusCode).toBe(200);
    for (const to of ["archived", "production"])
      expect(await refusedStage("guarded", 1, to, { "if-match": etag })).toMatchObject({
        status: 412,
        code: "model_changed",
        detail: "guarded@1 has changed since you read it (it is in stage staging now): read it again, then decide",
      });
    expect(
      await api().refused("PATCH", "/v1/models/guarded/versions/1", {
        body: { notes: "x" },
        headers: { "if-match": etag },
      }),
    ).toMatchObject({ status: 412 });
  });

  test("the same Idempotency-Key moves a stage once", async () => {
    await registerModel(api(), { name: "keyed", version: 1 });
    const headers = { "idempotency-key": "stage-1" };
    const first = await stage("keyed", 1, "staging", headers);
    await stage("keyed", 1, "candidate");
    const again = await stage("keyed", 1, "staging", headers);
    expect(again.json()).toEqual(first.json());
    expect(again.headers["idempotency-replayed"]).toBe("true");
    expect(await api().ok("GET", "/v1/models/keyed/versions/1")).toMatchObject({ stage: "candidate" });
  });

  test("notes are kept, and their change is part of the history", async () => {
    await registerModel(api(), { name: "noted", version: 1 });
    const body = { notes: "Trained with the lamp on." };
    const noted = await api().send("PATCH", "/v1/models/noted/versions/1", { body });
    expect(noted.json()).toMatchObject(body);
    expect((await api().send("PATCH", "/v1/models/noted/versions/1", { body })).headers["etag"]).toBe(
      noted.headers["etag"],
    );
    const { items } = await api().ok<Page<ModelEvent>>("GET", "/v1/models/noted/history?limit=1");
    expect(items[0]).toMatchObject({ type: "notes.changed", message: "The notes were changed." });
  });

  test("an alias is set, moved and removed; reserved words are refused", async () => {
    await registerModel(api(), { name: "named", version: 1 });
    await registerModel(api(), { name: "named", version: 2 });
    expect(await api().ok("PUT", "/v1/models/named/aliases/line-4", { version: 1 })).toMatchObject({
      aliases: ["line-4"],
    });
    await api().ok("PUT", "/v1/models/named/aliases/line-4", { version: 2 });
    expect(await api().ok("GET", "/v1/models/named/versions/line-4")).toMatchObject({ version: 2 });
    expect(await api().ok("GET", "/v1/models/named/versions/latest")).toMatchObject({ version: 2 });
    expect(await api().ok("GET", "/v1/models/named/versions/1")).toMatchObject({ aliases: [] });
    expect(await api().ok("GET", "/v1/models/named/aliases")).toMatchObject({
      items: [{ alias: "line-4", version: 2 }],
    });
    await api().ok("DELETE", "/v1/models/named/aliases/line-4");
    expect(await api().refused("DELETE", "/v1/models/named/aliases/line-4")).toMatchObject({ status: 404 });
    const refusal = async (alias: string) =>
      await api().refused("PUT", `/v1/models/named/aliases/${alias}`, { body: { version: 1 } });
    expect(await refusal("production")).toMatchObject({
      status: 422,
      code: "alias_refused",
      detail:
        'the alias "production" follows the stage: promote a version with POST /v1/models/named/versions/{version}/stage, or roll back with POST /v1/models/named/rollback',
    });
    expect((await refusal("latest")).detail).toContain("always means the newest version of named");
    expect((await refusal("staging")).detail).toContain('"staging" is a stage');
    expect((await refusal("7")).detail).toContain("not only digits, which would be a version's number");
    expect(await api().refused("DELETE", "/v1/models/named/aliases/production")).toMatchObject({
      code: "alias_refused",
    });
  });

  test("an alias in a run or an evaluation is written as the version that it means now", async () => {
    await registerModel(api(), { name: "scored", version: 1 });
    await registerModel(api(), { name: "scored", version: 2 });
    await api().ok("PUT", "/v1/models/scored/aliases/line-4", { version: 1 });
    const dataset = await api().readyDataset();
    const evaluate = async (model: string) =>
      await api().ok<Evaluation>("POST", "/v1/evaluations", { model, dataset, task: "vqa" });
    expect((await evaluate("scored@line-4")).spec.model).toBe("scored@1");
    expect((await evaluate("scored@latest")).spec.model).toBe("scored@2");
    expect((await evaluate("scored")).spec.model).toBe("scored@2");
    expect(
      await api().refused("POST", "/v1/evaluations", { body: { model: "scored@nobody", dataset, task: "vqa" } }),
    ).toMatchObject({
      status: 404,
      detail:
        'model "scored" has no alias "nobody": list its aliases with GET /v1/models/scored/aliases, or give a version\'s number',
    });
  });

  test("a run trains from the version that an alias means now", async () => {
    await registerModel(api(), { name: "base", version: 1, kind: "full" });
    for (const file of ["config.json", "preprocessor_config.json"])
      await api().storage.putFile(
        `models/base/1/${file}`,
        join(import.meta.dirname, "../../../../models/drydock-tiny-vl", file),
      );
    await api().ok("PUT", "/v1/models/base/aliases/line-4", { version: 1 });
    const { id } = await api().submitRun({ model: "base@line-4" });
    await api().ok("DELETE", "/v1/models/base/aliases/line-4");
    expect((await api().ok<Run>("GET", `/v1/runs/${id}`)).spec.model).toBe("base@1");
  });

  test("versions are compared: specs, data, scores, lineage", async () => {
    const { id: first } = await api().submitRun({ name: "two", training: { learningRate: 1e-4 } });
    const { id: second } = await api().submitRun({ name: "two", training: { learningRate: 2e-4, epochs: 5 } });
    await registerModel(api(), { name: "two", version: 1, runId: first });
    await registerModel(api(), {
      name: "two",
      version: 2,
      runId: second,
      lineage: { dataset: "weld@2", scores: { before: { "f1@0.5": 10 }, after: { "f1@0.5": 90, "iou@0.5": 70 } } },
    });
    const comparison = await api().ok<ModelComparison>("GET", "/v1/models/two/compare?versions=1,latest");
    expect(comparison.versions.map(({ version, dataset }) => [version, dataset])).toEqual([
      [1, "weld@1"],
      [2, "weld@2"],
    ]);
    expect(comparison.spec.filter(({ path }) => path.startsWith("training."))).toEqual([
      { path: "training.epochs", values: [3, 5] },
      { path: "training.learningRate", values: [1e-4, 2e-4] },
    ]);
    expect(comparison.lineage.map(({ path }) => path)).toEqual(["dataset", "runId"]);
    expect(comparison.scores).toEqual([
      { metric: "f1@0.5", values: [81, 90], differences: [0, 9] },
      { metric: "iou@0.5", values: [null, 70], differences: [null, null] },
    ]);
    expect(comparison.scoresBefore).toEqual([null, { "f1@0.5": 10 }]);
    expect((await api().refused("GET", "/v1/models/two/compare?versions=1")).detail).toContain(
      "name two versions or more, with commas between",
    );
    expect(await api().refused("GET", "/v1/models/two/compare?versions=1,9")).toMatchObject({ status: 404 });
  });

  test("one call rolls back; without a version before it says so", async () => {
    for (const version of [1, 2]) await registerModel(api(), { name: "rolled", version });
    expect(await api().refused("POST", "/v1/models/rolled/rollback", { body: {} })).toMatchObject({
      status: 409,
      code: "nothing_to_roll_back_to",
      detail:
        "no version of rolled has been in production: promote one with POST /v1/models/rolled/versions/{version}/stage",
    });
    for (const version of [1, 2]) await stage("rolled", version, "production");
    expect(await api().ok("POST", "/v1/models/rolled/rollback", { message: "Too many misses." })).toMatchObject({
      version: 1,
      previous: 2,
    });
    const { items } = await api().ok<Page<ModelEvent>>("GET", "/v1/models/rolled/history?version=1&limit=1");
    expect(items[0]!.message).toBe("rolled@1 is back in production; rolled@2 was there before. Too many misses.");
  });
});

describe("signed manifests", () => {
  const api = useApi(inMemory);
  const promotion = async (version: number) =>
    await api().refused("POST", `/v1/models/signed/versions/${version}/stage`, { body: { to: "production" } });
  const verify = async (version: number) =>
    await api().ok<ModelVerification>("POST", `/v1/models/signed/versions/${version}/verification`);

  test("anybody can verify a manifest with the public key", async () => {
    const { id } = await api().submitRun({ name: "signed" });
    const { files, manifest: summary } = await registerModel(api(), { name: "signed", version: 1, runId: id });
    const signed = await api().ok<SignedManifest>("GET", "/v1/models/signed/versions/1/manifest");
    const key = await api().ok<SigningKey>("GET", "/v1/signing-key");
    const text = canonicalJson(signed.manifest);
    expect(signed.digest).toBe(sha256(text));
    expect(isSignedBy(key.publicKey, text, signed.signature.value)).toBe(true);
    expect(signed.manifest).toMatchObject({ name: "signed", version: 1, files, lineage: { runId: id } });
    expect(signed.manifest.createdBy).toMatch(/^key_/);
    expect(summary).toEqual({ digest: signed.digest, keyId: key.keyId, signedAt: signed.signature.signedAt });
  });

  test("a registration that is said again keeps the manifest", async () => {
    const first = await api().ok<SignedManifest>("GET", "/v1/models/signed/versions/1/manifest");
    await registerModel(api(), { name: "signed", version: 1, runId: first.manifest.lineage.runId });
    expect(await api().ok("GET", "/v1/models/signed/versions/1/manifest")).toEqual(first);
  });

  test("sound files are verified and go to production", async () => {
    expect(await verify(1)).toMatchObject({ isSound: true, files: 3, problems: [] });
    await api().ok("POST", "/v1/models/signed/versions/1/stage", { to: "production" });
  });

  test("a damaged, a missing or an added file is refused by its name", async () => {
    await registerModel(api(), { name: "signed", version: 2 });
    const key = "models/signed/2/adapter_model.safetensors";
    await api().storage.put(key, "weightz".repeat(100));
    expect(await promotion(2)).toMatchObject({
      status: 422,
      code: "model_damaged",
      detail: `signed@2 cannot go to production: adapter_model.safetensors of signed@2 is damaged: its SHA-256 is ${sha256("weightz".repeat(100)).slice(0, 16)}…, and should be ${sha256("weights".repeat(100)).slice(0, 16)}…`,
      errors: [{ path: "adapter_model.safetensors", code: "digest" }],
    });
    await api().storage.remove(key);
    expect((await promotion(2)).detail).toBe(
      "signed@2 cannot go to production: adapter_model.safetensors of signed@2 is missing from storage",
    );
    await api().storage.put(key, modelContents["adapter_model.safetensors"]!);
    await api().storage.put("models/signed/2/chat_template.jinja", "other");
    expect((await promotion(2)).detail).toContain("chat_template.jinja lies beside the files of signed@2");
    await api().storage.remove("models/signed/2/chat_template.jinja");
    expect(await api().ok("GET", "/v1/models/signed/versions/2")).toMatchObject({ stage: "candidate" });
    await api().ok("POST", "/v1/models/signed/versions/2/stage", { to: "production" });
  });

  test("a row or a manifest that was changed in the database is refused", async () => {
    await registerModel(api(), { name: "signed", version: 3 });
    const { database } = api().services;
    const isThird = sql`${models.name} = 'signed' and ${models.version} = 3`;
    const other = sha256("other");
    await database
      .update(models)
      .set({ files: sql`jsonb_set(${models.files}, '{0,sha256}', ${JSON.stringify(other)}::jsonb)` })
      .where(isThird);
    expect((await promotion(3)).detail).toContain("what is recorded of signed@3 is not what was signed");
    await database
      .update(models)
      .set({
        manifest: sql`jsonb_set(${models.manifest}, '{manifest,files,0,sha256}', ${JSON.stringify(other)}::jsonb)`,
      })
      .where(isThird);
    expect((await promotion(3)).detail).toContain("the signature does not fit the manifest of signed@3");
    expect(await api().refused("POST", "/v1/models/signed/versions/3/manifest", { body: {} })).toMatchObject({
      code: "model_damaged",
    });
  });

  test("a model without a manifest is signed after its files were checked", async () => {
    await registerModel(api(), { name: "signed", version: 4 });
    await api()
      .services.database.update(models)
      .set({ manifest: null })
      .where(sql`${models.name} = 'signed' and ${models.version} = 4`);
    expect(await api().refused("GET", "/v1/models/signed/versions/4/manifest")).toMatchObject({ code: "no_manifest" });
    expect((await promotion(4)).detail).toContain(
      "signed@4 has no signed manifest, since it was made before there were any: POST /v1/models/signed/versions/4/manifest signs it",
    );
    expect((await api().ok<Model>("POST", "/v1/models/signed/versions/4/manifest")).manifest).not.toBeNull();
    expect(await verify(4)).toMatchObject({ isSound: true });
  });

  test("a manifest of another key is not taken for ours", async () => {
    const { privateKey } = generateKeyPairSync("ed25519");
    const signer = Ed25519Signer.ofPem(privateKey.export({ type: "pkcs8", format: "pem" }).toString());
    const { database } = api().services;
    const verifier = new ModelVerifier({ database, storage: api().storage, signer });
    const { problems } = await verifier.verify("signed", 1);
    expect(problems).toMatchObject([{ file: null, code: "unknown_key" }]);
    expect(problems[0]!.message).toContain("which is not this deployment's: if the key was replaced on purpose,");
  });

  test("a model of before there were code versions, stages and manifests is read as it is", async () => {
    await registerModel(api(), { name: "old", version: 1 });
    const { database } = api().services;
    await database
      .update(models)
      .set({ manifest: null, lineage: sql`${models.lineage} - 'codeVersion'` })
      .where(eq(models.name, "old"));
    expect(await api().ok("GET", "/v1/models/old/versions/1")).toMatchObject({
      manifest: null,
      lineage: { codeVersion: null },
      stage: "candidate",
    });
    expect(await api().ok("GET", "/v1/models/old/versions/1/lineage")).toMatchObject({ codeVersion: null });
  });
});
