import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { S3Storage, sha256 } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, type EvaluationView, until } from "../support/embedded.ts";

let scratch: string;
let server: Versitygw;
let storage: S3Storage;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-s3-"));
  server = await Versitygw.start();
  storage = new S3Storage(server.options({ prefix: "team" }));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), {
    ...server.environment(),
    STORAGE_URL: "s3://bucket/team",
    DRYDOCK_MODELS_IN_STORAGE: "1",
    DRYDOCK_WORKER_SLOTS: "2",
  });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
});
afterAll(async () => {
  await drydock.down();
  await server[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

async function submit(name: string): Promise<string> {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name,
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: 40, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 10 },
    evaluation: { before: false, maxNewTokens: 4 },
  });
  return id;
}

async function weightsOf(model: string | null): Promise<string> {
  const [name, version] = (model ?? "").split("@");
  return sha256(await storage.get(`models/${name}/${version}/adapter_model.safetensors`));
}

let undisturbed: string;

test("a run goes from submit to a model whose files come straight from S3", async () => {
  const run = await drydock.runIn(await submit("plain"), ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", model: "plain@1", progress: { step: 40 } });
  undisturbed = await weightsOf(run.model);
  const { key } = JSON.parse(await readFile(join(scratch, "state", "connection.json"), "utf8")) as { key: string };
  const file = `${drydock.url}/v1/models/plain/versions/1/files/adapter_model.safetensors`;
  const answer = await fetch(file, { headers: { authorization: `Bearer ${key}` } });
  expect(answer.url.startsWith(`${server.url}/bucket/team/models/plain/1/adapter_model.safetensors?`)).toBe(true);
  expect(sha256(new Uint8Array(await answer.arrayBuffer()))).toBe(undisturbed);
  // The worker took everything from storage into the cache of the node, and gave it up at its end.
  expect(await readdir(join(scratch, "state", "controller", "cache", "leases"))).toEqual([]);
  const weights = sha256(await readFile(join(scratch, "model", "model.safetensors")));
  expect(await readdir(join(scratch, "state", "controller", "cache", "objects", weights.slice(0, 2)))).toContain(
    weights,
  );
});

test("up with a bucket that does not exist says so before anything starts", async () => {
  const other = new Embedded(join(scratch, "other"), { ...server.environment(), STORAGE_URL: "s3://elsewhere/team" });
  await expect(other.up()).rejects.toThrow(
    `storage has no bucket "elsewhere" at ${server.url}: create it, or correct the bucket in STORAGE_URL (s3://elsewhere)`,
  );
});

test("a run whose storage is killed and comes back ends with the same bytes, on its first attempt", async () => {
  const id = await submit("storage-killed");
  await drydock.runAtStep(id, 5);
  await server.kill();
  await drydock.runAtStep(id, 10); // where its checkpoint waits for storage
  await server.up();
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 40 } });
  expect(run.attempts.map(({ epoch }) => epoch)).toEqual([1]);
  expect(await weightsOf(run.model)).toBe(undisturbed);
});

test("an evaluation of the adapter takes base and adapter from storage", async () => {
  const asked = { model: "plain@1", dataset: "colours@1", task: "vqa", maxSamples: 4, maxNewTokens: 4 };
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/evaluations", asked);
  const done = await until(`evaluation ${id} is over`, async () => {
    const found = await drydock.call<EvaluationView>("GET", `/v1/evaluations/${id}`);
    return found.state === "queued" || found.state === "running" ? null : found;
  });
  expect(done).toMatchObject({ state: "succeeded", samples: 4 });
  expect(await storage.head(`evaluations/${id}/results.jsonl`)).not.toBeNull();
});
