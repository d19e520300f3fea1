import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { S3Storage, sha256 } from "@drydock/kit";
import { FaultProxy } from "@drydock/kit/fault-proxy";
import { Versitygw } from "@drydock/kit/versitygw";
import { inMemory, useApi, type TestApi } from "./support/api.ts";

let server: Versitygw;
let gate: FaultProxy;
beforeAll(async () => {
  server = await Versitygw.start();
  gate = await FaultProxy.start(server.url);
});
afterAll(async () => {
  await gate[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const content = "weights of an adapter";

/** A model with one file, made by a run. */
async function registered(api: TestApi): Promise<string> {
  const { id } = await api.submitRun();
  await api.storage.put("models/weld/1/adapter_model.safetensors", content);
  await api.ok("POST", "/internal/v1/models", {
    name: "weld",
    version: 1,
    kind: "adapter",
    task: "vqa",
    systemPrompt: "",
    files: [{ name: "adapter_model.safetensors", sizeBytes: content.length, sha256: sha256(content) }],
    lineage: {
      base: "qwen3-vl-2b",
      baseDigest: null,
      runId: id,
      step: 30,
      dataset: "weld@1",
      datasetDigest: null,
      mode: "lora",
      planDigest: "p",
      scores: { before: null, after: null },
    },
  });
  return "/v1/models/weld/versions/1/files/adapter_model.safetensors";
}

describe("downloads of an api with S3 storage", () => {
  const api = useApi(inMemory, {
    storage: () => new S3Storage(server.options({ prefix: "redirect", publicEndpoint: gate.url })),
  });

  test("are redirects to the public endpoint of storage, which gives the file without our key", async () => {
    const path = await registered(api());
    const answer = await api().send("GET", path);
    expect([answer.statusCode, answer.body]).toEqual([302, ""]);
    expect(answer.headers["cache-control"]).toBe("no-store");
    const location = String(answer.headers.location);
    expect(location.startsWith(`${gate.url}/bucket/redirect/models/weld/1/adapter_model.safetensors?`)).toBe(true);
    const file = await fetch(location);
    expect(await file.text()).toBe(content);
    expect(file.headers.get("content-disposition")).toBe("attachment; filename*=UTF-8''adapter_model.safetensors");
    expect((await fetch(location.replace(/X-Amz-Signature=\w{6}/, "X-Amz-Signature=000000"))).status).toBe(403);
  });

  test("need a key of ours, and a file that is there", async () => {
    const path = "/v1/models/weld/versions/1/files/adapter_model.safetensors";
    expect(await api().refused("GET", path, { key: null })).toMatchObject({ status: 401 });
    await api().storage.remove("models/weld/1/adapter_model.safetensors");
    expect(await api().refused("GET", path)).toMatchObject({
      status: 404,
      detail: 'there is no file "adapter_model.safetensors" in storage',
    });
  });
});

describe("downloads of an api with S3 storage that people cannot reach", () => {
  const api = useApi(inMemory, {
    storage: () => new S3Storage(server.options({ prefix: "stream" })),
    downloads: "stream",
  });

  test("come through the api, whole or by range", async () => {
    const path = await registered(api());
    const whole = await api().send("GET", path);
    expect([whole.statusCode, whole.body]).toEqual([200, content]);
    const part = await api().send("GET", path, { headers: { range: "bytes=8-9" } });
    expect([part.statusCode, part.body]).toEqual([206, "of"]);
  });
});

describe("downloads of an api with a folder as storage", () => {
  const api = useApi(inMemory);

  test("come through the api", async () => {
    const answer = await api().send("GET", await registered(api()));
    expect([answer.statusCode, answer.body]).toEqual([200, content]);
  });
});
