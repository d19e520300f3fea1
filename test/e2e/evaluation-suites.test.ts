import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Evaluation, EvaluationComparison, EvaluationSuite } from "@drydock/spec";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, until } from "../support/embedded.ts";

/* A run, and a suite of its model and its base, each answered by two workers; rows carry tags. */
let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-suites-"));
  await createTinyModel(join(scratch, "model"));
  await createShades(join(scratch, "data"), 60);
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "2", DRYDOCK_WORKER_THREADS: "1" });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.3,
  });
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

/** One-colour pictures, no two alike, so that both splits have every colour; every second one is of the night. */
async function createShades(directory: string, count: number): Promise<void> {
  await mkdir(directory);
  const colours = ["red", "green", "blue"] as const;
  const rows: string[] = [];
  for (let row = 0; row < count; row++) {
    const colour = row % 3;
    const [r, g, b] = [0, 1, 2].map((channel) => (channel === colour ? 255 - row : row % 7));
    await sharp({ create: { width: 16, height: 16, channels: 3, background: { r: r!, g: g!, b: b! } } })
      .png()
      .toFile(join(directory, `${row}.png`));
    const content = [
      { type: "image", image: `${row}.png` },
      { type: "text", text: "Which colour?" },
    ];
    const messages = [
      { role: "user", content },
      { role: "assistant", content: colours[colour] },
    ];
    rows.push(JSON.stringify({ messages, metadata: { tags: [row % 2 === 0 ? "day" : "night"] } }));
  }
  await writeFile(join(directory, "rows.jsonl"), rows.map((row) => `${row}\n`).join(""));
}

let made: string;

test("evaluations of a run have intervals and slices", async () => {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name: "colours",
    model: { uri: join(scratch, "model") },
    mode: "full",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: 100, globalBatchSize: 8, learningRate: 3e-3 },
    evaluation: { metrics: ["exact-match", "bleu-1"], maxNewTokens: 6 },
  });
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded" });
  made = run.model ?? "";
  const { items } = await drydock.call<{ items: Evaluation[] }>("GET", `/v1/runs/${id}/evaluations`);
  expect(new Set(items.map(({ phase }) => phase))).toEqual(new Set(["before", "after"]));
  for (const { details, samples } of items) {
    expect(Object.keys(details?.intervals ?? {}).toSorted()).toEqual(["bleu-1", "exact-match"]);
    const slices = Object.fromEntries((details?.slices ?? []).map(({ name, count }) => [name, count]));
    expect(slices["tag:day"]! + slices["tag:night"]!).toBe(samples);
  }
});

test("a suite in shards ranks the trained model over its base; the two are compared, and reports are written", async () => {
  const base = { uri: join(scratch, "model") };
  const body = {
    models: [made, base],
    dataset: "colours",
    task: "vqa",
    metrics: ["exact-match", "bleu-1", "cider-d"],
    maxNewTokens: 6,
    shards: 2,
  };
  const { id } = await drydock.call<EvaluationSuite>("POST", "/v1/evaluations", body);
  const suite = await until("the suite is over", async () => {
    const found = await drydock.call<EvaluationSuite>("GET", `/v1/evaluation-suites/${id}`);
    return found.state === "succeeded" || found.state === "failed" ? found : null;
  });
  expect(suite).toMatchObject({ state: "succeeded", message: "2 of 2 evaluations are over" });
  expect(suite.ranking.map(({ model }) => model)).toEqual([made, base.uri]);
  const [trained, untrained] = suite.cells;

  // The same model, answered by one worker, has the same scores: shards change nothing.
  const whole = await drydock.call<Evaluation>("POST", "/v1/evaluations", {
    model: made,
    dataset: "colours@1",
    task: body.task,
    metrics: body.metrics,
    maxNewTokens: body.maxNewTokens,
  });
  const scored = await until("the evaluation is over", async () => {
    const found = await drydock.call<Evaluation>("GET", `/v1/evaluations/${whole.id}`);
    return found.state === "succeeded" || found.state === "failed" ? found : null;
  });
  expect(scored.scores).toEqual(trained?.scores);
  expect(scored.details?.intervals).toEqual(trained?.intervals);

  const compared = await drydock.call<EvaluationComparison>(
    "GET",
    `/v1/evaluations/compare?a=${trained?.evaluationId}&b=${untrained?.evaluationId}`,
  );
  expect(compared.overall).toMatchObject({ metric: "exact-match", rows: trained?.samples });
  expect(compared.overall.difference).toBeGreaterThan(0);
  expect(compared.overall.pValue).toBeLessThan(0.05);
  expect(compared.slices.map(({ slice }) => slice)).toEqual(expect.arrayContaining(["tag:day", "tag:night"]));

  const report = await drydock.text(`/v1/evaluations/${trained?.evaluationId}/report.html`);
  expect(report).toContain("tag:night");
  expect(report.match(/<image href="data:image\/jpeg;base64,/g)?.length).toBe(trained?.samples);
  expect(await drydock.text(`/v1/evaluation-suites/${id}/report.csv`)).toContain(",exact-match,");
});

test("a suite that is cancelled frees its workers; what had no worker yet never gets one", async () => {
  const { id, cells } = await drydock.call<EvaluationSuite>("POST", "/v1/evaluations", {
    models: [{ uri: join(scratch, "model") }, made],
    dataset: "colours",
    task: "vqa",
    maxNewTokens: 2000,
    shards: 2,
  });
  await until("two workers answer", async () => ((await drydock.workers()).length === 2 ? true : null));
  await drydock.call("POST", `/v1/evaluation-suites/${id}/cancel`, {});
  const suite = await until("the suite is over", async () => {
    const found = await drydock.call<EvaluationSuite>("GET", `/v1/evaluation-suites/${id}`);
    return found.state === "queued" || found.state === "running" ? null : found;
  });
  expect(suite).toMatchObject({ state: "cancelled", message: "2 of 2 evaluations are over, 2 cancelled" });
  expect(suite.cells.map(({ message }) => message)).toEqual(
    cells.map(() => "cancelled: its worker was stopped, nothing was scored"),
  );
  await until("no worker is left", async () => ((await drydock.workers()).length === 0 ? true : null));
});
