import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findPostgres, startPostgres, type TestPostgres } from "../../services/api/test/support/postgres.ts";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded } from "../support/embedded.ts";

let scratch: string;
let postgres: TestPostgres;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  const programs = findPostgres();
  if (programs === null)
    throw new Error("no PostgreSQL found: install Debian's postgresql package, or run npm install");
  postgres = await startPostgres(programs);
  drydock = new Embedded(join(scratch, "state"), { DATABASE_URL: postgres.url });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
});
afterAll(async () => {
  await drydock.down();
  await postgres.remove();
  await rm(scratch, { recursive: true, force: true });
});

test("a run on PostgreSQL rides out a database that is gone for 30 s, and no step is lost", async () => {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name: "database-gone",
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: 60, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 10 },
    evaluation: { before: false, maxNewTokens: 4 },
  });
  await drydock.runAtStep(id, 5);
  await postgres.stop();
  await delay(30_000);
  expect(await drydock.request("GET", `/v1/runs/${id}`)).toMatchObject({
    status: 503,
    body: { code: "database_unavailable" },
  });
  await postgres.start();
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(run.attempts.map(({ epoch }) => epoch)).toEqual([1]);
  const metrics = await drydock.call<{ items: { step: number }[] }>("GET", `/v1/runs/${id}/metrics?limit=200`);
  expect(metrics.items.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
});
