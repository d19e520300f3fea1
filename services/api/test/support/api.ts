import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FolderStorage, createLogger, newId, type ObjectStorage } from "@drydock/kit";
import type { DatasetStatistics, Problem, RunSpecInput } from "@drydock/spec";
import type { FastifyInstance, LightMyRequestResponse } from "fastify";
import pg from "pg";
import { afterAll, beforeAll, describe } from "vitest";
import { buildApp } from "../../src/app.ts";
import type { Limits, Services } from "../../src/services.ts";
import type { WebhookTiming } from "../../src/webhooks/webhook-loop.ts";
import { openDatabase, type DatabaseLocation, type OpenDatabase } from "../../src/store/database.ts";
import { allScopes } from "../../src/store/key-store.ts";
import { FakeWorkflows } from "./fake-workflows.ts";
import { findPostgres, startPostgres, type TestPostgres } from "./postgres.ts";

export const apiKey = "dk_test-key-of-an-administrator";
export const internalKey = "internal-key-of-the-controller";

/** Quick retries, so that tests wait for nothing but their condition. */
export const quickTiming = { pollMs: 20, firstRetryMs: 5, maximumRetryMs: 20 };

export interface Sending {
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly key?: string | null;
}

/** A whole api on one database, asked without a port. */
export class TestApi {
  readonly server: FastifyInstance;
  readonly services: Services;
  readonly workflows: FakeWorkflows;
  readonly storage: ObjectStorage;

  constructor(parts: Pick<TestApi, "server" | "services" | "workflows" | "storage">) {
    this.server = parts.server;
    this.services = parts.services;
    this.workflows = parts.workflows;
    this.storage = parts.storage;
  }

  async send(
    method: "GET" | "POST" | "PUT" | "DELETE" | "PATCH",
    url: string,
    { body, headers = {}, key = apiKey }: Sending = {},
  ): Promise<LightMyRequestResponse> {
    const authorization =
      key === null
        ? {}
        : { authorization: `Bearer ${url.startsWith("/internal/") && key === apiKey ? internalKey : key}` };
    const isText = typeof body === "string" || body instanceof Buffer;
    const type =
      body === undefined || headers["content-type"] !== undefined ? {} : { "content-type": "application/json" };
    return await this.server.inject({
      method,
      url,
      headers: { ...authorization, ...type, ...headers },
      ...(body === undefined ? {} : { payload: isText ? body : JSON.stringify(body) }),
    });
  }

  /** The JSON of an answer of success. */
  async ok<Answer>(method: "GET" | "POST" | "PUT" | "DELETE" | "PATCH", url: string, body?: unknown): Promise<Answer> {
    const response = await this.send(method, url, { body });
    if (response.statusCode >= 300)
      throw new Error(`${method} ${url} answered ${response.statusCode}: ${response.body}`);
    return response.json<Answer>();
  }

  /** The problem that a refused request is answered with. */
  async refused(
    method: "GET" | "POST" | "PUT" | "DELETE" | "PATCH",
    url: string,
    sending: Sending = {},
  ): Promise<Problem> {
    const response = await this.send(method, url, sending);
    if (response.statusCode < 400) throw new Error(`${method} ${url} answered ${response.statusCode}`);
    if (!String(response.headers["content-type"]).startsWith("application/problem+json"))
      throw new Error(`not a problem: ${response.body}`);
    return response.json<Problem>();
  }

  /** A data set with one ready version of 200 rows; its name. */
  async readyDataset(name = `data-${newId("dataset").slice(-12)}`): Promise<string> {
    await this.ok("POST", "/v1/datasets", { name });
    await this.upload(name, { "rows.csv": "image,question,answer\n" });
    return name;
  }

  /** Uploads files, imports them as a version, and reports the import as done. */
  async upload(
    name: string,
    files: Readonly<Record<string, string>>,
    statistics: DatasetStatistics = statisticsOf(200),
  ): Promise<void> {
    const { body, headers } = multipartOf(files);
    const upload = await this.send("POST", `/v1/datasets/${name}/uploads`, { body, headers });
    const { version } = await this.ok<{ version: number }>("POST", `/v1/datasets/${name}/versions`, {
      uploadId: upload.json<{ id: string }>().id,
    });
    await this.ok("PUT", `/internal/v1/datasets/${name}/versions/${version}`, {
      state: "ready",
      reason: null,
      digest: "d".repeat(64),
      statistics,
      report: reportOf(200),
    });
  }

  async submitRun(changes: Partial<RunSpecInput> = {}): Promise<{ id: string; etag: string }> {
    const dataset = changes.dataset ?? (await this.readyDataset());
    return await this.ok("POST", "/v1/runs", aSpec({ ...changes, dataset }));
  }
}

/** A run spec that plans on the table's accelerators. */
export function aSpec(changes: Partial<RunSpecInput> = {}): RunSpecInput {
  return { name: "weld-defects", model: "qwen3-vl-2b", dataset: "weld@1", task: "vqa", ...changes };
}

export function statisticsOf(rows: number): DatasetStatistics {
  const samples = Array.from({ length: 20 }, () => ({
    images: [[640, 480]] as [number, number][],
    promptCharacters: 40,
    answerCharacters: 12,
  }));
  return {
    rows,
    trainRows: rows * 0.8,
    validationRows: rows * 0.2,
    images: rows,
    pairs: rows,
    boxes: 0,
    tasks: { vqa: rows },
    samples,
  };
}

export function reportOf(rows: number) {
  return { rowsRead: rows, rowsAccepted: rows, errors: 0, warnings: 0, issues: [], byCode: {} };
}

/** A `multipart/form-data` body of files by their names. */
export function multipartOf(files: Readonly<Record<string, string>>): {
  body: string;
  headers: Record<string, string>;
} {
  const boundary = "----drydock-test-boundary";
  const parts = Object.entries(files).map(
    ([name, content]) =>
      `--${boundary}\r\ncontent-disposition: form-data; name="files"; filename="${name}"\r\ncontent-type: application/octet-stream\r\n\r\n${content}\r\n`,
  );
  return {
    body: `${parts.join("")}--${boundary}--\r\n`,
    headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
  };
}

export interface ApiOptions {
  readonly limits?: Partial<Limits>;
  readonly modelsDirectory?: string;
  /** Default: a folder of its own. */
  readonly storage?: () => ObjectStorage;
  readonly downloads?: "redirect" | "stream";
  /** Given, webhooks are sent. */
  readonly webhookTiming?: WebhookTiming;
  readonly webhookAllow?: readonly string[];
}

/** Opens an api for the tests of the surrounding `describe`, and closes it after them. */
export function useApi(location: () => Promise<DatabaseLocation>, options: ApiOptions = {}): () => TestApi {
  let api: TestApi | undefined;
  let database: OpenDatabase | undefined;
  let folder: string | undefined;
  beforeAll(async () => {
    const logger = createLogger("api-test", { DRYDOCK_LOG_LEVEL: process.env["DRYDOCK_LOG_LEVEL"] ?? "silent" });
    folder = await mkdtemp(join(tmpdir(), "drydock-api-test-"));
    database = await openDatabase(await location(), logger);
    const workflows = new FakeWorkflows();
    const storage = options.storage?.() ?? new FolderStorage(join(folder, "storage"));
    const { server, services } = await buildApp({
      database,
      storage,
      workflows,
      logger,
      internalKey,
      supply: undefined,
      outboxTiming: quickTiming,
      modelsDirectory: options.modelsDirectory ?? join(folder, "models"),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      ...(options.downloads === undefined ? {} : { downloads: options.downloads }),
      ...(options.webhookTiming === undefined ? {} : { webhookTiming: options.webhookTiming }),
      ...(options.webhookAllow === undefined ? {} : { webhookAllow: options.webhookAllow }),
    });
    await services.keys.insert("test", apiKey, allScopes);
    await server.ready();
    services.outbox.start();
    if (options.webhookTiming !== undefined) services.webhookLoop.start();
    api = new TestApi({ server, services, workflows, storage });
  });
  afterAll(async () => {
    await api?.server.close();
    await database?.close();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  });
  return () => api!;
}

export const inMemory = async (): Promise<DatabaseLocation> => ({ kind: "pglite", directory: null });

/** Runs the same tests on PGlite and on PostgreSQL; without PostgreSQL they name themselves as skipped (an error with CI=true). */
export function onEachDatabase(title: string, tests: (location: () => Promise<DatabaseLocation>) => void): void {
  describe(`${title} on PGlite`, () => {
    tests(inMemory);
  });
  const programs = findPostgres();
  const isMissing = programs === null && process.env["CI"] !== "true";
  const note = isMissing ? " (no PostgreSQL found: install Debian's postgresql package, or run npm install)" : "";
  describe.skipIf(isMissing)(`${title} on PostgreSQL${note}`, () => {
    let postgres: TestPostgres | undefined;
    beforeAll(async () => {
      if (programs === null)
        throw new Error("no PostgreSQL found: install Debian's postgresql package or run npm install");
      postgres = await startPostgres(programs);
    });
    tests(async () => ({ kind: "postgres", url: await newDatabase(postgres!.url) }));
    afterAll(async () => await postgres?.remove());
  });
}

async function newDatabase(serverUrl: string): Promise<string> {
  const name = newId("dataset");
  const client = new pg.Client({ connectionString: serverUrl });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  return serverUrl.replace(/\/postgres$/, `/${name}`);
}
