import type { Evaluation, EvaluationComparison, EvaluationSuite } from "@drydock/spec";
import { eq } from "drizzle-orm";
import { expect, test, vi } from "vitest";
import { inMemory, onEachDatabase, statisticsOf, useApi } from "../../test/support/api.ts";
import { answered, evaluated, finish } from "../../test/support/evaluated.ts";
import type { Page } from "../pages.ts";
import { evaluations } from "../store/schema.ts";

const models = ["qwen3-vl-2b", "qwen3-vl-4b"];

onEachDatabase("evaluation suites", (location) => {
  const api = useApi(location);

  test("a suite is an evaluation of each model on each data set, with scores, intervals and a ranking", async () => {
    const datasets = [await api().readyDataset(), await api().readyDataset()];
    const body = { name: "weekly", models, datasets, task: "vqa", metrics: ["exact-match"] };
    const response = await api().send("POST", "/v1/evaluations", { body });
    const suite = response.json<EvaluationSuite>();
    expect(response.headers["location"]).toBe(`/v1/evaluation-suites/${suite.id}`);
    expect(suite).toMatchObject({
      name: "weekly",
      state: "queued",
      message: "0 of 4 evaluations are over, 4 waiting",
      headline: "exact-match",
      spec: { datasets: datasets.map((name) => `${name}@1`) },
      ranking: [],
    });
    expect(suite.cells.map(({ model, dataset }) => [model, dataset])).toEqual(
      models.flatMap((model) => datasets.map((dataset) => [model, `${dataset}@1`])),
    );
    await vi.waitFor(() => {
      const started = api().workflows.started.map(({ workflowId }) => workflowId);
      expect(suite.cells.every(({ evaluationId }) => started.includes(evaluationId))).toBe(true);
    });

    const half: EvaluationSuite[] = [];
    for (const [index, { evaluationId }] of suite.cells.entries()) {
      const evaluation = await api().ok<Evaluation>("GET", `/v1/evaluations/${evaluationId}`);
      expect(evaluation.suiteId).toBe(suite.id);
      // The first model answers 1 and 3 of 4 rightly, the second 3 and 3.
      const right = index === 0 ? 1 : 3;
      const rows = [0, 1, 2, 3].map((row) => answered(`r${row}`, row < right ? "two" : "three"));
      await finish(api(), evaluation, rows);
      half.push(await api().ok<EvaluationSuite>("GET", `/v1/evaluation-suites/${suite.id}`));
    }
    expect(half[0]).toMatchObject({ state: "running", ranking: [] });
    expect(half[1]?.ranking).toEqual([{ rank: 1, model: "qwen3-vl-2b", score: 50, datasets: 2 }]);
    const done = await api().ok<EvaluationSuite>("GET", `/v1/evaluation-suites/${suite.id}`);
    expect(done).toMatchObject({ state: "succeeded", message: "4 of 4 evaluations are over" });
    expect(done.cells[0]).toMatchObject({
      scores: { "exact-match": 25 },
      intervals: { "exact-match": { low: 0, high: 75, level: 0.95 } },
    });
    expect(done.ranking).toEqual([
      { rank: 1, model: "qwen3-vl-4b", score: 75, datasets: 2 },
      { rank: 2, model: "qwen3-vl-2b", score: 50, datasets: 2 },
    ]);
    const { items } = await api().ok<Page<EvaluationSuite>>("GET", "/v1/evaluation-suites?limit=1");
    expect(items[0]).toEqual(done);
    const own = await api().ok<Page<Evaluation>>("GET", `/v1/evaluations?suiteId=${suite.id}`);
    expect(own.items).toHaveLength(4);
  });

  test("a suite whose evaluation failed has failed, and still shows the others", async () => {
    const dataset = await api().readyDataset();
    const suite = await api().ok<EvaluationSuite>("POST", "/v1/evaluations", { models, dataset, task: "vqa" });
    expect(suite.name).toBe("suite");
    const [first, second] = suite.cells;
    const evaluation = await api().ok<Evaluation>("GET", `/v1/evaluations/${first!.evaluationId}`);
    await finish(api(), evaluation, [answered("r0", "two"), answered("r1", "two")]);
    await api().ok("PUT", `/internal/v1/evaluations/${second!.evaluationId}`, {
      runId: null,
      phase: "standalone",
      step: null,
      state: "failed",
      message: "the model's files are damaged",
      spec: { ...evaluation.spec, model: "qwen3-vl-4b" },
      scores: null,
      samples: 0,
      seconds: null,
      resultsKey: null,
    });
    expect(await api().ok("GET", `/v1/evaluation-suites/${suite.id}`)).toMatchObject({
      state: "failed",
      message: "2 of 2 evaluations are over, 1 failed",
      cells: [{ state: "succeeded" }, { state: "failed", message: "the model's files are damaged" }],
      ranking: [{ model: "qwen3-vl-2b" }],
    });
  });

  test("an evaluation that ends while its suite is being cancelled does not keep the others from that", async () => {
    const body = { name: "race", models, dataset: await api().readyDataset(), task: "vqa" };
    const suite = await api().ok<EvaluationSuite>("POST", "/v1/evaluations", body);
    const [first, second] = suite.cells.map(({ evaluationId }) => evaluationId);
    const { database } = api().services;
    const { promise: isLocked, resolve: locked } = Promise.withResolvers<void>();
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const ending = database.transaction(async (tx) => {
      await tx.update(evaluations).set({ state: "succeeded" }).where(eq(evaluations.id, first!));
      locked();
      await mayEnd;
    });
    await isLocked;
    const cancelled = api().send("POST", `/v1/evaluation-suites/${suite.id}/cancel`, { body: {} });
    setTimeout(end, 300);
    await ending;
    expect((await cancelled).statusCode).toBe(200);
    expect(await api().ok("GET", `/v1/evaluations/${first}`)).toMatchObject({ state: "succeeded" });
    expect(await api().ok("GET", `/v1/evaluations/${second}`)).toMatchObject({
      message: "Cancelling: its worker stops.",
    });
  });

  test("a suite that is cancelled ends what is open, keeps what was scored, and is not ended twice", async () => {
    const body = { models, dataset: await api().readyDataset(), task: "vqa", metrics: ["exact-match"] };
    const { id, cells } = await api().ok<EvaluationSuite>("POST", "/v1/evaluations", body);
    const [scored, open] = await Promise.all(
      cells.map(async (cell) => await api().ok<Evaluation>("GET", `/v1/evaluations/${cell.evaluationId}`)),
    );
    await finish(api(), scored!, [answered("r0", "two")]);
    for (let time = 0; time < 2; time++) await api().ok("POST", `/v1/evaluation-suites/${id}/cancel`, {});
    await vi.waitFor(() =>
      expect(api().workflows.signals.filter(({ workflowId }) => workflowId === open!.id)).toEqual([
        { workflowId: open!.id, signal: "cancel" },
      ]),
    );
    expect(await api().ok("GET", `/v1/evaluations/${open!.id}`)).toMatchObject({
      state: "queued",
      message: "Cancelling: its worker stops.",
    });
    const { runId, phase, step, spec, scores, samples, seconds, resultsKey } = open!;
    const update = { runId, phase, step, spec, scores, samples, seconds, resultsKey, message: "cancelled" };
    await api().ok("PUT", `/internal/v1/evaluations/${open!.id}`, { ...update, state: "cancelled" });
    await api().ok("PUT", `/internal/v1/evaluations/${open!.id}`, { ...update, state: "running" });
    expect(await api().ok("GET", `/v1/evaluation-suites/${id}`)).toMatchObject({
      state: "cancelled",
      message: "2 of 2 evaluations are over, 1 cancelled",
    });
    expect(await api().ok("POST", `/v1/evaluations/${open!.id}/cancel`, {})).toMatchObject({ state: "cancelled" });
    const refused = await api().refused("POST", `/v1/evaluations/${scored!.id}/cancel`, { body: {} });
    expect(refused).toMatchObject({ status: 409, code: "evaluation_is_over" });
    expect(refused.detail).toBe(`evaluation ${scored!.id} has succeeded and can no longer be cancelled`);
  });

  test("an evaluation that is part of a run is not cancelled by itself", async () => {
    const { id } = await api().submitRun();
    const part = `${id}-before`;
    await api().ok("PUT", `/internal/v1/evaluations/${part}`, {
      runId: id,
      phase: "before",
      step: 0,
      state: "running",
      message: "",
      spec: { model: "qwen3-vl-2b", dataset: "weld@1", task: "vqa" },
      scores: null,
      samples: 0,
      seconds: null,
      resultsKey: null,
    });
    const refused = await api().refused("POST", `/v1/evaluations/${part}/cancel`, { body: {} });
    expect(refused).toMatchObject({ status: 409, code: "evaluation_of_run" });
    expect(refused.detail).toBe(`evaluation ${part} is part of run ${id}: cancel that`);
  });

  test("a suite that is asked for twice with one key is made once", async () => {
    const dataset = await api().readyDataset();
    const sending = { body: { models, dataset, task: "vqa" }, headers: { "idempotency-key": `suite-${dataset}` } };
    const first = await api().send("POST", "/v1/evaluations", sending);
    const second = await api().send("POST", "/v1/evaluations", sending);
    expect(second.json()).toEqual(first.json());
    expect(second.headers["idempotency-replayed"]).toBe("true");
  });
});

const api = useApi(inMemory);

test("an evaluation shows its intervals and slices", async () => {
  const dataset = await api().readyDataset();
  const rows = [0, 1, 2, 3].map((row) =>
    answered(`r${row}`, row < 3 ? "two" : "three", { tags: [row < 2 ? "day" : "night"] }),
  );
  const evaluation = await evaluated(api(), { model: "qwen3-vl-2b", dataset, task: "vqa" }, rows);
  expect(evaluation).toMatchObject({
    scores: { "exact-match": 75 },
    details: {
      intervals: { "exact-match": { low: 25, high: 100, level: 0.95 } },
      slices: [
        { name: "tag:day", count: 2, scores: { "exact-match": 100 } },
        { name: "tag:night", count: 2, scores: { "exact-match": 50 } },
        { name: "size:small", count: 4, scores: { "exact-match": 75 } },
      ],
    },
  });
});

test("two evaluations are compared on all rows and on slices, and rows that changed are named", async () => {
  const dataset = await api().readyDataset();
  const spec = { dataset, task: "vqa" as const, metrics: ["exact-match"] };
  const rows = (isRight: (row: number) => boolean, count: number) =>
    Array.from({ length: count }, (_, row) =>
      answered(`r${row}`, isRight(row) ? "two" : "three", { tags: [row < 10 ? "day" : "night"] }),
    );
  const a = await evaluated(
    api(),
    { ...spec, model: models[0]! },
    rows((row) => row !== 3, 20),
  );
  const b = await evaluated(
    api(),
    { ...spec, model: models[1]! },
    rows((row) => row < 10, 21),
  );
  const url = `/v1/evaluations/compare?a=${a.id}&b=${b.id}`;
  const compared = await api().ok<EvaluationComparison>("GET", url);
  expect(compared).toMatchObject({
    a: { evaluationId: a.id, model: "qwen3-vl-2b" },
    overall: { metric: "exact-match", slice: null, rows: 20, a: 95, b: 50, difference: 45 },
    onlyInA: 0,
    onlyInB: 1,
    wonCount: 10,
    lostCount: 1,
    lost: [{ rowId: "r3", answerA: "three", answerB: "two", scoreA: 0, scoreB: 100 }],
  });
  // McNemar's exact test of 10 against 1 says 0.0117.
  expect(compared.overall.pValue).toBeGreaterThan(0.002);
  expect(compared.overall.pValue).toBeLessThan(0.03);
  expect(compared.slices.map(({ slice, rows: count, difference }) => [slice, count, difference])).toEqual([
    ["tag:day", 10, -10],
    ["tag:night", 10, 100],
    ["size:small", 20, 45],
  ]);
  const night = await api().ok<EvaluationComparison>("GET", `${url}&slice=night&metric=rouge-l`);
  expect(night.slices).toMatchObject([{ slice: "tag:night", metric: "rouge-l", pValue: 2 / 2 ** 10 }]);
  expect(night).toMatchObject({ wonCount: 10, lostCount: 0 });
});

test("a trace of a score, as BLEU leaves one for words that do not match, is no change", async () => {
  const dataset = await api().readyDataset();
  const spec = { model: "qwen3-vl-2b", dataset, task: "vqa" as const, metrics: ["bleu-1"] };
  const [a, b] = [
    await evaluated(api(), spec, [answered("r1", "red"), answered("r2", "red")]),
    await evaluated(api(), spec, [answered("r1", ""), answered("r2", "")]),
  ];
  const compared = await api().ok<EvaluationComparison>("GET", `/v1/evaluations/compare?a=${a.id}&b=${b.id}`);
  expect(compared).toMatchObject({ wonCount: 0, lostCount: 0, overall: { pValue: 1 } });
});

test("what cannot be evaluated says why", async () => {
  const dataset = await api().readyDataset();
  const refused = async (body: unknown) => {
    const { status, code, detail } = await api().refused("POST", "/v1/evaluations", { body });
    return { status, code, detail };
  };
  const both = { model: "qwen3-vl-2b", models, dataset, task: "vqa" };
  expect(await refused(both)).toEqual({
    status: 400,
    code: "both_given",
    detail: "give either model or models, not both",
  });
  expect(await refused({ models, task: "vqa" })).toEqual({
    status: 400,
    code: "none_given",
    detail: 'give dataset, e.g. "weld@3", or a list of them as datasets',
  });
  expect(await refused({ model: "qwen3-vl-2b", dataset, name: "x", task: "vqa" })).toMatchObject({
    detail: "only suites have a name: leave it out, or give models or datasets",
  });
  expect(await refused({ models: ["qwen3-vl-2b", "qwen3-vl-2b"], dataset, task: "vqa" })).toMatchObject({
    code: "duplicate_model",
    detail: "models names qwen3-vl-2b twice, at places 1 and 2: name each once",
  });
  expect(await refused({ models, datasets: [dataset, `${dataset}@1`], task: "vqa" })).toMatchObject({
    code: "duplicate_dataset",
    detail: `datasets names ${dataset}@1 twice, at places 1 and 2: name each once`,
  });
  expect(await refused({ models, dataset, task: "vqa", metrics: ["iou"] })).toMatchObject({
    code: "unknown_metric",
    detail: expect.stringContaining('metric "iou" is not one of task "vqa"; use exact-match') as unknown,
  });
  expect(await refused({ models, dataset, task: "vqa", maxSamples: 8, shards: 9 })).toEqual({
    status: 422,
    code: "too_many_shards",
    detail: `9 shards are more than the 8 rows of ${dataset}@1 that are scored: use at most 8`,
  });
  expect(await refused({ models: [...models, "nothing"], dataset, task: "vqa" })).toMatchObject({
    status: 404,
    code: "model_not_found",
  });
  expect(await api().refused("GET", "/v1/evaluation-suites/suite_none")).toMatchObject({
    status: 404,
    detail: 'there is no evaluation suite "suite_none": list them with GET /v1/evaluation-suites',
  });
});

test("a data set without a validation split is refused before any worker starts", async () => {
  const dataset = await api().readyDataset();
  await api().upload(dataset, { "rows.csv": "image,question,answer\n" }, { ...statisticsOf(200), validationRows: 0 });
  expect(
    await api().refused("POST", "/v1/evaluations", { body: { model: "qwen3-vl-2b", dataset, task: "vqa" } }),
  ).toMatchObject({
    status: 422,
    code: "no_validation_rows",
    detail: `${dataset}@2 has no rows in its validation split, so there is nothing to score: import it again with a larger validationShare`,
  });
});

test("what cannot be compared says why", async () => {
  const [dataset, otherDataset] = [await api().readyDataset(), await api().readyDataset()];
  const spec = { model: "qwen3-vl-2b", dataset, task: "vqa" as const };
  const a = await evaluated(api(), spec, [answered("r1", "two"), answered("r2", "two")]);
  const otherRows = await evaluated(api(), spec, [answered("s1", "two")]);
  const other = await evaluated(api(), { ...spec, dataset: otherDataset }, [answered("r1", "two")]);
  const chat = await evaluated(api(), { ...spec, task: "chat" }, [answered("r1", "two")]);
  const open = await api().ok<Evaluation>("POST", "/v1/evaluations", spec);
  const refused = async (b: string, more = "") => {
    const url = `/v1/evaluations/compare?a=${a.id}&b=${b}${more}`;
    const { status, detail } = await api().refused("GET", url);
    return [status, detail];
  };
  expect(await refused(open.id)).toEqual([
    409,
    `evaluation ${open.id} is waiting to start: wait until it has succeeded`,
  ]);
  expect(await refused(other.id)).toEqual([
    400,
    `${a.id} is of data set ${dataset}, ${other.id} of ${otherDataset}: compare evaluations of the same data set`,
  ]);
  expect(await refused(chat.id)).toEqual([
    400,
    `${a.id} has task vqa, ${chat.id} chat: compare evaluations of the same task`,
  ]);
  expect(await refused(otherRows.id)).toEqual([
    400,
    "the two have no row in common (2 and 1 rows): compare evaluations of the same validation split",
  ]);
  expect(await refused(a.id, "&metric=map")).toEqual([
    400,
    expect.stringContaining('metric "map" is not one of task "vqa"; use exact-match'),
  ]);
  expect(await refused(a.id, "&slice=night")).toEqual([400, 'there is no slice "night"; the rows have size:small']);
  expect(await refused("eval_none")).toEqual([404, expect.stringContaining('there is no evaluation "eval_none"')]);
});
