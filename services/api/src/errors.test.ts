import { expect, test, vi } from "vitest";
import { aSpec, inMemory, useApi } from "../test/support/api.ts";

const api = useApi(inMemory, { limits: { bodyBytes: 10_000 } });

test("an unknown key is refused with its path and a sentence", async () => {
  const problem = await api().refused("POST", "/v1/runs", {
    body: { ...aSpec(), training: { epochs: 1, learnignRate: 1 } },
  });
  expect(problem).toMatchObject({
    status: 400,
    code: "invalid_request",
    errors: [{ path: "training.learnignRate", code: "unknown_key" }],
  });
  expect(problem.detail).toContain('there is no field "learnignRate" here');
});

test.each([
  [
    "a wrong type",
    { training: { epochs: "three" } },
    "training.epochs",
    'expected number, received string (it is "three")',
  ],
  ["rank 0", { training: { lora: { rank: 0 } } }, "training.lora.rank", "expected number to be >=1 (it is 0)"],
  ["a bad name", { name: "Weld Defects" }, "name", "use 1-63 lower-case letters"],
  ["an unknown task", { task: "segmentation" }, "task", 'expected one of "phrase-grounding"|"vqa"|"chat"'],
  ["a key in a union", { resources: { gpu: 4 } }, "resources.gpu", 'there is no field "gpu" here'],
  ["a key of the model", { model: { url: "x" } }, "model.url", 'there is no field "url" here'],
])("%s is refused with its path", async (_name, changes, path, message) => {
  const problem = await api().refused("POST", "/v1/runs", { body: { ...aSpec(), ...changes } });
  expect(problem.status).toBe(400);
  expect(problem.errors.find((error) => error.path === path)?.message).toContain(message);
});

test.each([
  ["NVILA-Lite with LoRA", { model: "nvila-lite-2b" }, "mode", /NVILA.*cannot be trained with mode "lora"/],
  ["more pipeline stages than layers", { resources: { pipelineStages: 100 } }, "resources.pipelineStages", /100/],
  ["an unknown model", { model: "qwen9" }, "model", /There is no model "qwen9"\. Use one of/],
])("%s is refused as a run, with the planner's sentence", async (_name, changes, path, message) => {
  const dataset = await api().readyDataset();
  const problem = await api().refused("POST", "/v1/runs", {
    body: aSpec({ ...changes, dataset } as Parameters<typeof aSpec>[0]),
  });
  expect(problem).toMatchObject({ status: 422, code: "plan_refused" });
  expect(problem.errors.find((error) => error.path === path)?.message).toMatch(message);
});

test("an unknown data set is named", async () => {
  expect(await api().refused("POST", "/v1/runs", { body: aSpec({ dataset: "nowhere@1" }) })).toMatchObject({
    status: 404,
    code: "dataset_not_found",
    errors: [{ path: "dataset" }],
  });
  const dataset = await api().readyDataset();
  expect(await api().refused("POST", "/v1/runs", { body: aSpec({ dataset: `${dataset}@9` }) })).toMatchObject({
    status: 404,
    code: "dataset_version_not_found",
    errors: [{ path: "dataset" }],
  });
});

test("a plan for data that is not there yet is advice with a warning", async () => {
  const plan = await api().ok<{ warnings: { code: string }[]; refusals: unknown[] }>(
    "POST",
    "/v1/plans",
    aSpec({ dataset: "nowhere" }),
  );
  expect(plan.warnings.map(({ code }) => code)).toContain("dataset_not_there");
  expect(plan.refusals).toEqual([]);
});

test.each([
  ["broken JSON", "POST", "/v1/runs", { body: '{"name": ' }, 400, "invalid_json", /brackets/],
  [
    "an empty body",
    "POST",
    "/v1/runs",
    { headers: { "content-type": "application/json" } },
    400,
    "empty_body",
    /send a JSON object/,
  ],
  ["no body", "POST", "/v1/runs", {}, 400, "invalid_request", /has no body/],
  [
    "another content type",
    "POST",
    "/v1/runs",
    { body: "a: 1", headers: { "content-type": "application/yaml" } },
    415,
    "unsupported_media_type",
    /application\/json/,
  ],
  [
    "a body over the limit",
    "POST",
    "/v1/datasets",
    { body: { name: "x", description: "y".repeat(20_000) } },
    413,
    "body_too_large",
    /larger/,
  ],
  ["a path that is nothing", "GET", "/v1/nothing", {}, 404, "route_not_found", /there is nothing at \/v1\/nothing/],
  [
    "a method that a path does not take",
    "PUT",
    "/v1/runs/run_1",
    {},
    405,
    "method_not_allowed",
    /use GET or HEAD or PATCH/,
  ],
  ["an unknown run", "GET", "/v1/runs/run_1", {}, 404, "run_not_found", /there is no run "run_1"/],
  ["a NUL in a path", "GET", "/v1/runs/%00%27", {}, 400, "invalid_text", /NUL/],
  [
    "a NUL in a body",
    "POST",
    "/v1/datasets",
    { body: { name: "nul", description: "a\u0000b" } },
    400,
    "invalid_text",
    /NUL/,
  ],
  ["a malformed escape", "GET", "/v1/runs/%zz", {}, 400, "invalid_url", /%zz/],
  ["a version that is no number", "GET", "/v1/datasets/weld/versions/newest", {}, 400, "invalid_request", /version/],
  ["an unknown query key", "GET", "/v1/runs?page=2", {}, 400, "invalid_request", /"page"/],
  ["an unknown state in a filter", "GET", "/v1/runs?state=done", {}, 400, "invalid_request", /state/],
  ["no key", "GET", "/v1/runs", { key: null }, 401, "no_key", /Authorization: Bearer/],
  ["an unknown key", "GET", "/v1/runs", { key: "dk_unknown" }, 401, "unknown_key", /unknown or was revoked/],
  [
    "an API key at the internal door",
    "GET",
    "/internal/v1/runs/x",
    { key: "dk_other" },
    401,
    "unknown_key",
    /internal key/,
  ],
] as const)("%s is answered with a problem", async (_name, method, url, sending, status, code, detail) => {
  const problem = await api().refused(method, url, sending);
  expect(problem).toMatchObject({ status, code, type: `urn:drydock:problem:${code}` });
  expect(problem.detail).toMatch(detail);
  expect(problem.requestId).toMatch(/^req_/);
});

test("a 405 says what the path takes", async () => {
  expect((await api().send("DELETE", "/v1/runs")).headers["allow"]).toBe("POST, GET, HEAD");
});

test("a key may do what its scope allows and no more, until it is revoked", async () => {
  const reader = await api().ok<{ id: string; secret: string }>("POST", "/v1/keys", {
    name: "reader",
    scopes: ["read"],
  });
  expect((await api().send("GET", "/v1/runs", { key: reader.secret })).statusCode).toBe(200);
  expect(await api().refused("POST", "/v1/plans", { key: reader.secret, body: aSpec() })).toMatchObject({
    status: 403,
    code: "missing_scope",
  });
  const submitter = await api().ok<{ id: string; secret: string }>("POST", "/v1/keys", {
    name: "submitter",
    scopes: ["submit"],
  });
  expect((await api().send("POST", "/v1/plans", { key: submitter.secret, body: aSpec() })).statusCode).toBe(200);
  expect(await api().refused("GET", "/v1/keys", { key: submitter.secret })).toMatchObject({ status: 403 });
  const unused = await api().ok<{ id: string; secret: string }>("POST", "/v1/keys", {
    name: "unused",
    scopes: ["read"],
  });
  await api().ok("DELETE", `/v1/keys/${unused.id}`);
  expect(await api().refused("GET", "/v1/runs", { key: unused.secret })).toMatchObject({ status: 401 });
  expect(JSON.stringify(await api().ok("GET", "/v1/keys"))).not.toContain("dk_");
});

test("an unexpected error is logged, and nothing of it reaches the client", async () => {
  const spy = vi
    .spyOn(api().services.runs, "list")
    .mockRejectedValueOnce(new Error("password=hunter2 at /secret/place.ts"));
  const response = await api().send("GET", "/v1/runs");
  spy.mockRestore();
  expect(response.statusCode).toBe(500);
  expect(response.body).not.toMatch(/hunter2|secret|\.ts/);
  expect(response.json()).toMatchObject({
    code: "internal_error",
    requestId: expect.stringMatching(/^req_/) as unknown,
  });
});

test("a database that is away is a 503 that says when to come back", async () => {
  const gone = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:5432"), {
    code: "ECONNREFUSED",
    syscall: "connect",
  });
  const spy = vi.spyOn(api().services.runs, "list").mockRejectedValueOnce(new Error("Failed query", { cause: gone }));
  const response = await api().send("GET", "/v1/runs");
  spy.mockRestore();
  expect(response.statusCode).toBe(503);
  expect(response.headers["retry-after"]).toBe("5");
  expect(response.json()).toMatchObject({ code: "database_unavailable" });
});
