import type { Dataset, DatasetVersion } from "@drydock/spec";
import { expect, test, vi } from "vitest";
import { inMemory, multipartOf, onEachDatabase, reportOf, statisticsOf, useApi } from "../../test/support/api.ts";
import type { Page } from "../pages.ts";

const limits = { uploadFileBytes: 1000, uploadTotalBytes: 1500, uploadFiles: 3 };

onEachDatabase("data sets", (location) => {
  const api = useApi(location);

  test("a data set is made once under its name", async () => {
    const made = await api().ok<Dataset>("POST", "/v1/datasets", { name: "weld", description: "Seams" });
    expect(made).toMatchObject({ name: "weld", description: "Seams", latestVersion: null });
    expect(await api().ok("GET", "/v1/datasets/weld")).toEqual(made);
    expect(await api().refused("POST", "/v1/datasets", { body: { name: "weld" } })).toMatchObject({
      status: 409,
      code: "dataset_exists",
      errors: [{ path: "name" }],
    });
    expect((await api().ok<Page<Dataset>>("GET", "/v1/datasets")).items.map(({ name }) => name)).toContain("weld");
  });

  test("an upload becomes a version, its import starts under the version's id, and its outcome is shown", async () => {
    await api().ok("POST", "/v1/datasets", { name: "seams" });
    const { body, headers } = multipartOf({ "train/rows.csv": "a,b\n", "train/images/1.png": "png" });
    const upload = (await api().send("POST", "/v1/datasets/seams/uploads", { body, headers })).json<{ id: string }>();
    expect(upload).toMatchObject({ dataset: "seams", files: 2, sizeBytes: 7 });
    expect(new TextDecoder().decode(await api().storage.get(`uploads/${upload.id}/train/rows.csv`))).toBe("a,b\n");
    const version = await api().ok<DatasetVersion>("POST", "/v1/datasets/seams/versions", {
      uploadId: upload.id,
      options: { format: "csv" },
    });
    expect(version).toMatchObject({
      version: 1,
      state: "validating",
      options: { format: "csv", validationShare: 0.2, seed: 42 },
    });
    await vi.waitFor(() =>
      expect(api().workflows.started.find(({ workflowId }) => workflowId === version.id)).toMatchObject({
        workflow: "dataset",
        input: { versionId: version.id, dataset: "seams", version: 1, uploadKey: `uploads/${upload.id}/` },
      }),
    );
    expect(await api().refused("GET", "/v1/datasets/seams/versions/1/report")).toMatchObject({
      status: 409,
      code: "report_not_ready",
    });
    const statistics = statisticsOf(100);
    const outcome = { state: "ready", reason: null, digest: "d".repeat(64), statistics, report: reportOf(100) };
    await api().ok("PUT", "/internal/v1/datasets/seams/versions/1", outcome);
    await api().ok("PUT", "/internal/v1/datasets/seams/versions/1", { ...outcome, state: "failed" });
    const ready = await api().ok<DatasetVersion>("GET", "/v1/datasets/seams/versions/1");
    expect(ready).toMatchObject({ state: "ready", statistics: { rows: 100 } });
    expect(ready.statistics).not.toHaveProperty("samples");
    expect(await api().ok("GET", "/v1/datasets/seams/versions/1/report")).toEqual(reportOf(100));
    expect(await api().ok("GET", "/v1/datasets/seams")).toMatchObject({ latestVersion: 1 });
  });

  test("a version that is not ready is not trained on, and the newest ready one is", async () => {
    await api().readyDataset("mixed");
    const { body, headers } = multipartOf({ "rows.csv": "a" });
    const upload = (await api().send("POST", "/v1/datasets/mixed/uploads", { body, headers })).json<{ id: string }>();
    await api().ok("POST", "/v1/datasets/mixed/versions", { uploadId: upload.id });
    expect(
      await api().ok("POST", "/v1/runs", { name: "r", model: "qwen3-vl-2b", task: "vqa", dataset: "mixed" }),
    ).toMatchObject({ spec: { dataset: "mixed@1" } });
    expect(
      await api().refused("POST", "/v1/plans", {
        body: { name: "r", model: "qwen3-vl-2b", task: "vqa", dataset: "mixed@2" },
      }),
    ).toMatchObject({ status: 409, code: "dataset_not_ready", errors: [{ path: "dataset" }] });
  });

  test("an upload of another data set, or none, is not found", async () => {
    await api().ok("POST", "/v1/datasets", { name: "empty" });
    expect(await api().refused("POST", "/v1/datasets/empty/versions", { body: { uploadId: "up_none" } })).toMatchObject(
      { status: 404, code: "upload_not_found", errors: [{ path: "uploadId" }] },
    );
    expect(await api().ok("GET", "/v1/datasets/empty")).toMatchObject({ latestVersion: null });
  });
});

const api = useApi(inMemory, { limits });

test.each([
  ["a name that climbs out", { "../../etc/passwd": "x" }, 400, "unsafe_file_name", /"\.\.\/\.\.\/etc\/passwd"/],
  ["an absolute name", { "/etc/passwd": "x" }, 400, "unsafe_file_name", /relative path/],
  ["a Windows name that climbs out", { "..\\x": "x" }, 400, "unsafe_file_name", /relative path/],
  [
    "a file over the limit",
    { "big.png": "x".repeat(1001) },
    413,
    "file_too_large",
    /"big.png" is larger than 1000 bytes/,
  ],
  [
    "files over the limit together",
    { "a.png": "x".repeat(900), "b.png": "x".repeat(900) },
    413,
    "upload_too_large",
    /1500 bytes with "b.png"/,
  ],
  ["too many files", { a: "1", b: "2", c: "3", d: "4" }, 413, "too_many_files", /more than 3 files/],
  ["no file", {}, 400, "no_files", /holds no file/],
])("%s is refused, and nothing of the upload stays", async (title, files, status, code, detail) => {
  const name = title.toLowerCase().replaceAll(" ", "-");
  await api().ok("POST", "/v1/datasets", { name });
  const { body, headers } = multipartOf(files);
  const problem = await api().refused("POST", `/v1/datasets/${name}/uploads`, { body, headers });
  expect(problem).toMatchObject({ status, code });
  expect(problem.detail).toMatch(detail);
  const keys: string[] = [];
  for await (const { key } of api().storage.list("uploads/")) keys.push(key);
  expect(keys).toEqual([]);
});

test("one archive may be the body", async () => {
  await api().ok("POST", "/v1/datasets", { name: "archived" });
  const response = await api().send("POST", "/v1/datasets/archived/uploads?name=weld.zip", {
    body: Buffer.from("PK"),
    headers: { "content-type": "application/zip" },
  });
  const upload = response.json<{ id: string }>();
  expect(upload).toMatchObject({ files: 1, sizeBytes: 2 });
  expect(await api().storage.head(`uploads/${upload.id}/weld.zip`)).not.toBeNull();
});

test("an upload in another content type is refused, and one to nowhere too", async () => {
  await api().ok("POST", "/v1/datasets", { name: "typed" });
  expect(
    await api().refused("POST", "/v1/datasets/typed/uploads", { body: "x", headers: { "content-type": "text/plain" } }),
  ).toMatchObject({ status: 415 });
  expect(
    await api().refused("POST", "/v1/datasets/typed/uploads", {
      body: "{}",
      headers: { "content-type": "application/json" },
    }),
  ).toMatchObject({ status: 415 });
  const { body, headers } = multipartOf({ a: "1" });
  expect(await api().refused("POST", "/v1/datasets/nowhere/uploads", { body, headers })).toMatchObject({ status: 404 });
});

test.each([
  ["that is no multipart at all", () => "garbage"],
  ["that ends within a file", () => multipartOf({ "a.txt": "x".repeat(100_000) }).body.slice(0, 50_000)],
])("an upload %s is refused and leaves nothing behind", async (_case, make) => {
  await api().send("POST", "/v1/datasets", { body: { name: "cut-off" } });
  const { headers } = multipartOf({ a: "1" });
  const problem = await api().refused("POST", "/v1/datasets/cut-off/uploads", { body: make(), headers });
  expect(problem).toMatchObject({ status: 400, code: "broken_upload" });
  expect(problem.detail).toMatch(/^the upload cannot be read \(.+\): was it cut off\? Send it again$/);
});

test("rows are shown with their pictures, and pictures by their content", async () => {
  await api().ok("POST", "/v1/datasets", { name: "shown" });
  await api().upload("shown", { "rows.csv": "x" });
  const { datasetId } = await api().services.datasets.locate("shown", 1);
  const image = `${"a".repeat(64)}.png`;
  const row = (index: number) => ({
    rowId: `row-${index}`,
    split: index % 2 === 0 ? "train" : "validation",
    task: "vqa",
    source: { file: "rows.csv", row: index + 1 },
    images: [
      {
        key: `datasets/${datasetId}/images/${image}`,
        sha256: "a".repeat(64),
        fileName: "1.png",
        width: 1,
        height: 1,
        sizeBytes: 3,
      },
    ],
    messages: [{ role: "user", content: "<image>?" }],
  });
  await api().storage.put(
    `datasets/${datasetId}/versions/1/records.jsonl`,
    [0, 1, 2, 3, 4].map((index) => `${JSON.stringify(row(index))}\n`).join(""),
  );
  await api().storage.put(`datasets/${datasetId}/images/${image}`, "png");
  const page = await api().ok<{ rows: { rowId: string; imageUrls: string[] }[]; total: number }>(
    "GET",
    "/v1/datasets/shown/versions/1/preview?offset=1&limit=2",
  );
  expect(page.rows.map(({ rowId }) => rowId)).toEqual(["row-1", "row-2"]);
  expect(page.total).toBe(5);
  expect(
    (await api().ok<{ total: number }>("GET", "/v1/datasets/shown/versions/1/preview?split=validation")).total,
  ).toBe(2);
  const url = page.rows[0]!.imageUrls[0]!;
  const picture = await api().send("GET", url);
  expect(picture.headers["content-type"]).toBe("image/png");
  expect(picture.body).toBe("png");
  expect(
    (await api().send("GET", url, { headers: { "if-none-match": String(picture.headers["etag"]) } })).statusCode,
  ).toBe(304);
  expect(await api().refused("GET", "/v1/datasets/shown/images/..%2F..%2Fsecret")).toMatchObject({ status: 400 });
});
