import { writeFile } from "node:fs/promises";
import type { Evaluation, EvaluationSuite, SampleResult } from "@drydock/spec";
import sharp from "sharp";
import { expect, test } from "vitest";
import { inMemory, useApi } from "../../test/support/api.ts";
import { answered, evaluated, finish } from "../../test/support/evaluated.ts";

const api = useApi(inMemory);

const evil = `<script>alert(1)</script><img src=x onerror="alert(2)">'"&`;
const evilTag = `</text></svg><script>alert(3)</script>`;

/** The page without the spaces between tags. */
function compact(page: string): string {
  return page.replaceAll(/>\s+/g, ">").replaceAll(/\s+</g, "<");
}

async function picture(key: string, width: number, height: number): Promise<void> {
  const bytes = await sharp({ create: { width, height, channels: 3, background: "#7aa5d2" } })
    .composite([
      { input: { create: { width: 80, height: 60, channels: 3, background: "#444444" } }, left: 40, top: 60 },
      { input: { create: { width: 60, height: 90, channels: 3, background: "#a0522d" } }, left: 200, top: 80 },
    ])
    .png()
    .toBuffer();
  await api().storage.put(key, bytes);
}

async function groundingEvaluation(): Promise<Evaluation> {
  const dataset = await api().readyDataset();
  const { datasetId } = await api().services.datasets.locate(dataset, 1);
  const imageKey = `datasets/${datasetId}/images/${"c".repeat(64)}.png`;
  await picture(imageKey, 320, 240);
  const row = (rowId: string, changes: Partial<SampleResult>): SampleResult =>
    answered(rowId, "[boxes]", {
      imageKey,
      fileName: "yard.png",
      width: 320,
      height: 240,
      prompt: "Locate car, door.",
      expected: "car, door",
      expectedGroundings: [
        { phrase: "car", boxes: [[40 / 320, 60 / 240, 120 / 320, 120 / 240]] },
        { phrase: "door", boxes: [[200 / 320, 80 / 240, 260 / 320, 170 / 240]] },
      ],
      tags: ["day"],
      ...changes,
    });
  return await evaluated(
    api(),
    { model: "qwen3-vl-2b", dataset, task: "phrase-grounding", metrics: ["f1@0.5", "iou", "map"] },
    [
      row("r1", {
        answeredGroundings: [
          { phrase: "car", boxes: [[0.14, 0.27, 0.38, 0.52]] },
          { phrase: "door", boxes: [[0.4, 0.3, 0.6, 0.7]] },
        ],
      }),
      row("r2", { answer: evil, isParsable: false, prompt: evil, tags: [evilTag, "night"], fileName: evil }),
      row("r3", { answeredGroundings: [{ phrase: evilTag, boxes: [[0, 0, 1, 1]] }], tags: ["night"] }),
      row("r4", { imageKey: "runs/x/checkpoints/secret", answeredGroundings: [] }),
    ],
  );
}

test("the report of boxes is one safe file with scores, slices, pictures and boxes", async () => {
  const { id } = await groundingEvaluation();
  const response = await api().send("GET", `/v1/evaluations/${id}/report.html`);
  expect(response.headers["content-type"]).toBe("text/html; charset=utf-8");
  expect(response.headers["content-security-policy"]).toBe(
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
  );
  const text = compact(response.body);
  // For a look at it: DRYDOCK_KEEP_REPORT=report.html.
  const path = process.env["DRYDOCK_KEEP_REPORT"];
  if (path !== undefined) await writeFile(path, response.body);
  expect(text).not.toMatch(/<script|<img src=x|onerror="|https?:\/\//);
  expect(text).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
  expect(text).toContain("class:car");
  expect(text).toContain("tag:night");
  expect(text).toMatch(/f1@0.5<\/td><td>\d+\.\d<small>\d+\.\d–\d+\.\d<\/small>/);
  expect(text.match(/<image href="data:image\/jpeg;base64,/g)).toHaveLength(3);
  expect(text.match(/the picture cannot be shown/g)).toHaveLength(1);
  expect(text).toContain('<rect x="40" y="60" width="80" height="60" fill="none" stroke="#12a150"');
  expect(text).toContain('stroke="#e0245e"');
  expect(text).toContain("no boxes could be read from it");
});

test("the report shows as many rows as asked for, the worst first when told so", async () => {
  const { id } = await groundingEvaluation();
  const { body } = await api().send("GET", `/v1/evaluations/${id}/report.html?rows=1&order=worst`);
  expect(body.match(/<section class="sample">/g)).toHaveLength(1);
  expect(body).toContain("1 of 4 rows, those with the lowest f1@0.5 first.");
  expect(await api().refused("GET", `/v1/evaluations/${id}/report.html?rows=9999`)).toMatchObject({ status: 400 });
});

test("a report of questions shows question, right answer and answer", async () => {
  const dataset = await api().readyDataset();
  const rows = [answered("r1", "two"), answered("r2", evil)];
  const { id } = await evaluated(api(), { model: "qwen3-vl-2b", dataset, task: "vqa" }, rows);
  const body = compact((await api().send("GET", `/v1/evaluations/${id}/report.html`)).body);
  expect(body).toContain("<dt>question</dt><dd><span>How many?</span></dd>");
  expect(body).toContain("<dt>right</dt><dd><span>two</span></dd>");
  expect(body).toContain('<dd><span class="right">two</span></dd>');
  expect(body).toContain('<dd><span class="wrong">&lt;script&gt;');
  expect(body).not.toContain("<script");
});

test("rows as CSV are quoted and run no formula; as JSON they are whole", async () => {
  const dataset = await api().readyDataset();
  const rows = [
    answered("r1", 'a "b", c\nd', { tags: ["x", "y"] }),
    answered("r2", "=HYPERLINK(1)", { fileName: null }),
  ];
  const evaluation = await evaluated(api(), { model: "qwen3-vl-2b", dataset, task: "vqa" }, rows);
  const response = await api().send("GET", `/v1/evaluations/${evaluation.id}/report.csv`);
  expect(response.headers["content-disposition"]).toBe(`attachment; filename="${evaluation.id}.csv"`);
  expect(response.body).toBe(
    [
      "model,dataset,rowId,fileName,tags,width,height,prompt,expected,answer,isParsable,exact-match",
      `qwen3-vl-2b,${dataset}@1,r1,r1.png,x y,100,100,How many?,two,"a ""b"", c\nd",true,0`,
      `qwen3-vl-2b,${dataset}@1,r2,,,100,100,How many?,two,'=HYPERLINK(1),true,0`,
      "",
    ].join("\r\n"),
  );
  const report = await api().ok<{ evaluation: Evaluation; samples: SampleResult[] }>(
    "GET",
    `/v1/evaluations/${evaluation.id}/report.json`,
  );
  expect(report.evaluation).toEqual(evaluation);
  expect(report.samples.map(({ answer }) => answer)).toEqual(['a "b", c\nd', "=HYPERLINK(1)"]);
});

test("an evaluation that is not over has no report yet", async () => {
  const dataset = await api().readyDataset();
  const { id } = await api().ok<Evaluation>("POST", "/v1/evaluations", { model: "qwen3-vl-2b", dataset, task: "vqa" });
  for (const type of ["html", "csv", "json"])
    expect(await api().refused("GET", `/v1/evaluations/${id}/report.${type}`)).toMatchObject({
      status: 409,
      code: "evaluation_not_finished",
      detail: `evaluation ${id} is waiting to start: wait until it has succeeded`,
    });
});

test("reports of a suite show every pair, and what failed", async () => {
  const dataset = await api().readyDataset();
  const models = ["qwen3-vl-2b", "qwen3-vl-4b"];
  const suite = await api().ok<EvaluationSuite>("POST", "/v1/evaluations", { models, dataset, task: "vqa" });
  const [first, second] = suite.cells;
  const evaluation = await api().ok<Evaluation>("GET", `/v1/evaluations/${first!.evaluationId}`);
  await finish(api(), evaluation, [answered("r1", "two"), answered("r2", "one")]);
  await api().ok("PUT", `/internal/v1/evaluations/${second!.evaluationId}`, {
    runId: null,
    phase: "standalone",
    step: null,
    state: "failed",
    message: evil,
    spec: { ...evaluation.spec, model: "qwen3-vl-4b" },
    scores: null,
    samples: 0,
    seconds: null,
    resultsKey: null,
  });
  const url = `/v1/evaluation-suites/${suite.id}/report`;
  const body = compact((await api().send("GET", `${url}.html`)).body);
  expect(body).toContain("1. qwen3-vl-2b");
  expect(body).toContain("50.0<small>0.0–100.0</small>");
  expect(body).toContain("qwen3-vl-4b on");
  expect(body).not.toContain("<script");
  expect((await api().send("GET", `${url}.csv`)).body.split("\r\n")).toEqual([
    "model,dataset,evaluationId,state,samples,metric,score,low,high",
    `qwen3-vl-2b,${dataset}@1,${first!.evaluationId},succeeded,2,exact-match,50,0,100`,
    `qwen3-vl-4b,${dataset}@1,${second!.evaluationId},failed,0,,,,`,
    "",
  ]);
  expect(await api().ok("GET", `${url}.json`)).toMatchObject({ id: suite.id, state: "failed" });
});
