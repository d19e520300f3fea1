import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Evaluation, Model, ModelVerification, SigningKey } from "@drydock/spec";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, until } from "../support/embedded.ts";

let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-registry-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "2", DRYDOCK_COMMIT: "3f2a9c1d4e5f6071" });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

async function train(seed: number, warmStart?: { run: string }): Promise<string | null> {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name: "colours",
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    warmStart,
    training: { maxSteps: 4, globalBatchSize: 8, learningRate: 1e-3, seed },
    evaluation: { before: warmStart !== undefined, maxNewTokens: 4 },
  });
  return (await drydock.runIn(id, ["succeeded", "failed"])).model;
}

const version = async (of: string | number): Promise<Model> =>
  await drydock.call("GET", `/v1/models/colours/versions/${of}`);
const promote = async (number: number): Promise<Model> =>
  await drydock.call("POST", `/v1/models/colours/versions/${number}/stage`, { to: "production" });

test("two runs make two versions, signed and with the code that made them", async () => {
  expect([await train(1), await train(2)]).toEqual(["colours@1", "colours@2"]);
  expect(await version(1)).toMatchObject({ stage: "candidate", lineage: { codeVersion: "0.1.0+3f2a9c1d4e5f" } });
  const key = await drydock.call<SigningKey>("GET", "/v1/signing-key");
  for (const number of [1, 2]) {
    expect((await version(number)).manifest?.keyId).toBe(key.keyId);
    const verification = await drydock.call<ModelVerification>(
      "POST",
      `/v1/models/colours/versions/${number}/verification`,
      {},
    );
    expect(verification.problems).toEqual([]);
    expect(verification.files).toBeGreaterThan(2);
  }
});

test("an evaluation of the version in production is one of its number", async () => {
  await promote(1);
  await promote(2);
  const { id, spec } = await drydock.call<Evaluation>("POST", "/v1/evaluations", {
    model: "colours@production",
    dataset: "colours@1",
    task: "vqa",
    maxSamples: 2,
    maxNewTokens: 4,
  });
  expect(spec.model).toBe("colours@2");
  const { message, state } = await until("the evaluation is over", async () => {
    const evaluation = await drydock.call<Evaluation>("GET", `/v1/evaluations/${id}`);
    return evaluation.state === "succeeded" || evaluation.state === "failed" ? evaluation : null;
  });
  expect({ message, state }).toMatchObject({ state: "succeeded" });
});

test("a rollback puts the first version back; the damaged second one does not come again", async () => {
  expect(await drydock.call("POST", "/v1/models/colours/rollback", {})).toMatchObject({ version: 1, previous: 2 });
  expect(await version("production")).toMatchObject({ version: 1 });
  await drydock.call("POST", "/v1/models/colours/versions/2/stage", { to: "staging" });
  await writeFile(join(scratch, "state", "storage", "models", "colours", "2", "adapter_config.json"), "{}");
  await expect(promote(2)).rejects.toThrow(/adapter_config\.json of colours@2 is damaged: it has 2 bytes/);
  expect(await version("production")).toMatchObject({ version: 1 });
});

test("the key, the stages and the history outlive a restart", async () => {
  const before = await drydock.call<SigningKey>("GET", "/v1/signing-key");
  await drydock.down();
  await drydock.up();
  expect(await drydock.call("GET", "/v1/signing-key")).toEqual(before);
  expect(await version("production")).toMatchObject({ version: 1, aliases: ["production"] });
  const history = await drydock.call<{ items: { type: string }[] }>("GET", "/v1/models/colours/history?limit=200");
  expect(history.items.map(({ type }) => type).toReversed()).toEqual([
    "model.registered",
    "model.registered",
    "model.promoted",
    "model.promoted",
    "stage.changed",
    "model.rolled-back",
    "stage.changed",
    "stage.changed",
  ]);
});

test("a run begins where another ended: the scores before it are those, and its lineage says so", async () => {
  const { runId, scores } = (await version(1)).lineage;
  expect(await train(1, { run: runId })).toBe("colours@3");
  const { lineage } = await version(3);
  expect(lineage.warmStart).toEqual({ runId, step: 4, manifestSha256: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect(lineage.scores.before).toEqual(scores.after);
});
