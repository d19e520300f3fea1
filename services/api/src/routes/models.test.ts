import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Evaluation, Model } from "@drydock/spec";
import { sha256 } from "@drydock/kit";
import { expect, test, vi } from "vitest";
import { aSpec, inMemory, onEachDatabase, useApi, type TestApi } from "../../test/support/api.ts";
import type { Page } from "../pages.ts";

const lineage = {
  base: "qwen3-vl-2b",
  baseDigest: null,
  step: 30,
  dataset: "weld@1",
  datasetDigest: null,
  mode: "lora" as const,
  planDigest: "p",
  scores: { before: null, after: { "f1@0.5": 80 } },
};

async function register(
  api: TestApi,
  runId: string,
  name: string,
  version: number,
  changes: Partial<Model> = {},
): Promise<Model> {
  const contents = { "adapter_config.json": '{"r":16}', "adapter_model.safetensors": "weights".repeat(100) };
  for (const [file, content] of Object.entries(contents))
    await api.storage.put(`models/${name}/${version}/${file}`, content);
  const files = Object.entries(contents).map(([file, content]) => ({
    name: file,
    sizeBytes: content.length,
    sha256: sha256(content),
  }));
  return await api.ok("POST", "/internal/v1/models", {
    name,
    version,
    kind: "adapter",
    task: "vqa",
    systemPrompt: "",
    files,
    lineage: { ...lineage, runId },
    ...changes,
  });
}

onEachDatabase("models and evaluations", (location) => {
  const api = useApi(location);

  test("a model that a run made is listed, and the run names it", async () => {
    const { id } = await api().submitRun();
    await register(api(), id, "weld", 1);
    const model = await register(api(), id, "weld", 2);
    await register(api(), id, "weld", 2);
    await register(api(), id, "a-weld", 1);
    expect(await api().ok("GET", "/v1/models/weld/versions/2")).toMatchObject({
      name: "weld",
      version: 2,
      files: model.files,
    });
    expect(await api().ok("GET", "/v1/models/weld/versions/2/lineage")).toMatchObject({
      runId: id,
      base: "qwen3-vl-2b",
    });
    expect(await api().ok("GET", `/v1/runs/${id}`)).toMatchObject({ model: "a-weld@1" });
    const first = await api().ok<Page<Model>>("GET", "/v1/models?limit=2");
    const second = await api().ok<Page<Model>>("GET", `/v1/models?limit=2&cursor=${first.nextCursor}`);
    expect([...first.items, ...second.items].map(({ name, version }) => `${name}@${version}`)).toEqual([
      "a-weld@1",
      "weld@2",
      "weld@1",
    ]);
    expect(await api().refused("GET", "/v1/models/weld/versions/9")).toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  });

  test("an evaluation is made, started, filled by the controller, and stays as it succeeded", async () => {
    const dataset = await api().readyDataset();
    const made = await api().ok<Evaluation>("POST", "/v1/evaluations", { model: "qwen3-vl-2b", dataset, task: "vqa" });
    expect(made).toMatchObject({ state: "queued", phase: "standalone", spec: { dataset: `${dataset}@1` } });
    await vi.waitFor(() =>
      expect(api().workflows.started.find(({ workflowId }) => workflowId === made.id)).toMatchObject({
        workflow: "evaluationRun",
        input: { datasetVersion: 1 },
      }),
    );
    const update = {
      runId: null,
      phase: "standalone",
      step: null,
      state: "succeeded",
      message: "done",
      spec: made.spec,
      scores: { "exact-match": 50 },
      samples: 2,
      seconds: 1,
      resultsKey: null,
    };
    await api().ok("PUT", `/internal/v1/evaluations/${made.id}`, update);
    await api().ok("PUT", `/internal/v1/evaluations/${made.id}`, { ...update, state: "failed" });
    expect(await api().ok("GET", `/v1/evaluations/${made.id}`)).toMatchObject({
      state: "succeeded",
      scores: { "exact-match": 50 },
    });
    expect(
      (await api().ok<Page<Evaluation>>("GET", "/v1/evaluations?state=succeeded")).items.map(({ id }) => id),
    ).toEqual([made.id]);
  });

  test("evaluations of a run are listed with it", async () => {
    const { id } = await api().submitRun();
    const spec = { model: "qwen3-vl-2b", dataset: "weld@1", task: "vqa", maxNewTokens: 128, image: {} };
    await api().ok("PUT", `/internal/v1/evaluations/${id}-before`, {
      runId: id,
      phase: "before",
      step: 0,
      state: "running",
      message: "",
      spec,
      scores: null,
      samples: 0,
      seconds: null,
      resultsKey: null,
    });
    expect((await api().ok<Page<Evaluation>>("GET", `/v1/runs/${id}/evaluations`)).items).toMatchObject([
      { id: `${id}-before`, phase: "before" },
    ]);
  });
});

const api = useApi(inMemory);

test("files of a model are downloaded one by one, in parts, or all as one archive that tar reads", async () => {
  const { id } = await api().submitRun();
  const model = await register(api(), id, "packed", 1);
  const url = "/v1/models/packed/versions/1";
  expect(await api().ok("GET", `${url}/files`)).toEqual({ items: model.files });
  const file = await api().send("GET", `${url}/files/adapter_config.json`);
  expect(file.body).toBe('{"r":16}');
  expect(file.headers["etag"]).toBe(`"${sha256('{"r":16}')}"`);
  const part = await api().send("GET", `${url}/files/adapter_config.json`, { headers: { range: "bytes=1-3" } });
  expect([part.statusCode, part.headers["content-range"], part.body]).toEqual([206, "bytes 1-3/8", '"r"']);
  expect(await api().refused("GET", `${url}/files/..%2F..%2Fsecret`)).toMatchObject({
    status: 404,
    code: "file_not_found",
  });
  const archive = await api().send("GET", `${url}/archive`);
  const folder = mkdtempSync(join(tmpdir(), "drydock-tar-"));
  writeFileSync(join(folder, "model.tar"), archive.rawPayload);
  execFileSync("tar", ["-xf", "model.tar"], { cwd: folder });
  expect(readFileSync(join(folder, "packed-1", "adapter_model.safetensors"), "utf8")).toBe("weights".repeat(100));
  rmSync(folder, { recursive: true });
});

test("an adapter is not the base of a run, and an unknown model is not evaluated", async () => {
  const { id } = await api().submitRun();
  await register(api(), id, "adapted", 1);
  const dataset = await api().readyDataset();
  expect(await api().refused("POST", "/v1/runs", { body: aSpec({ dataset, model: "adapted@1" }) })).toMatchObject({
    status: 400,
    code: "adapter_as_base",
    errors: [{ path: "model" }],
  });
  expect(
    (await api().send("POST", "/v1/evaluations", { body: { model: "adapted@1", dataset, task: "vqa" } })).statusCode,
  ).toBe(201);
  expect(
    await api().refused("POST", "/v1/evaluations", { body: { model: "nothing", dataset, task: "vqa" } }),
  ).toMatchObject({ status: 404, code: "model_not_found" });
});

test("samples are paged with the URL of their picture, which is one of a data set", async () => {
  const dataset = await api().readyDataset();
  const { datasetId } = await api().services.datasets.locate(dataset, 1);
  const imageKey = `datasets/${datasetId}/images/${"b".repeat(64)}.png`;
  await api().storage.put(imageKey, "picture");
  const made = await api().ok<Evaluation>("POST", "/v1/evaluations", { model: "qwen3-vl-2b", dataset, task: "vqa" });
  const sample = (key: string | null, rowId: string) => ({
    rowId,
    imageKey: key,
    fileName: null,
    width: 1,
    height: 1,
    prompt: "?",
    expected: "a",
    answer: "a",
    expectedGroundings: [],
    answeredGroundings: [],
    isParsable: true,
    scores: { "exact-match": 100 },
  });
  const resultsKey = `evaluations/${made.id}/results.jsonl`;
  await api().storage.put(
    resultsKey,
    [sample(imageKey, "1"), sample(null, "2"), sample("runs/x/checkpoints/secret", "3")]
      .map((row) => `${JSON.stringify(row)}\n`)
      .join(""),
  );
  await api().ok("PUT", `/internal/v1/evaluations/${made.id}`, {
    runId: null,
    phase: "standalone",
    step: null,
    state: "succeeded",
    message: "",
    spec: made.spec,
    scores: {},
    samples: 3,
    seconds: 1,
    resultsKey,
  });
  const page = await api().ok<{ items: { rowId: string; imageUrl: string | null }[]; total: number }>(
    "GET",
    `/v1/evaluations/${made.id}/samples?limit=2`,
  );
  expect(page.total).toBe(3);
  expect(page.items.map(({ imageUrl }) => imageUrl)).toEqual([`/v1/evaluations/${made.id}/samples/0/image`, null]);
  expect((await api().send("GET", page.items[0]!.imageUrl!)).body).toBe("picture");
  for (const index of [1, 2, 3])
    expect(await api().refused("GET", `/v1/evaluations/${made.id}/samples/${index}/image`)).toMatchObject({
      status: 404,
      code: "image_not_found",
    });
});

test("the catalogue, the queues and the metrics say what is here", async () => {
  const models = await api().ok<{ items: { name: string; parameters: number }[] }>("GET", "/v1/catalogue/models");
  expect(models.items.find(({ name }) => name === "qwen3-vl-4b")?.parameters).toBeGreaterThan(4e9);
  const here = await api().ok<{ items: { name: string; isHere: boolean }[] }>("GET", "/v1/catalogue/accelerators");
  expect(here.items.find(({ name }) => name === "nvidia-h100-80gb")).toMatchObject({ isHere: true });
  const { id } = await api().submitRun({ queue: "night" });
  expect(await api().ok("GET", "/v1/queues")).toMatchObject({
    items: expect.arrayContaining([
      expect.objectContaining({ name: "night", depth: 1, byState: { validating: 1 } }),
    ]) as unknown,
  });
  expect(await api().ok("GET", "/v1/queues/night/waiting")).toMatchObject({ items: [{ id, state: "validating" }] });
  const metrics = (await api().send("GET", "/metrics")).body;
  expect(metrics).toMatch(/drydock_http_requests_total\{method="POST",route="\/v1\/runs",status="201"\} \d+/);
  expect(metrics).toMatch(/drydock_runs\{state="validating"\} \d+/);
  expect(await api().refused("GET", "/metrics", { key: null })).toMatchObject({ status: 401 });
});
