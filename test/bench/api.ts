/**
 * Latency of the api under load: 200 clients at once, 2,000 plans, then 500 submitted runs, against a real process.
 *
 *   node test/bench/api.ts                     PGlite, and a Temporal dev server when `temporal` is found
 *   DATABASE_URL=postgresql://… node test/bench/api.ts
 *
 * Prints one JSON object. Exits with 1 when any answer is a 5xx.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { availableParallelism, homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const clients = 200;
const plans = 2_000;
const submissions = 500;

interface Measured {
  readonly requests: number;
  readonly statuses: Record<string, number>;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maximumMs: number;
}

const folder = await mkdtemp(join(tmpdir(), "drydock-bench-"));
const children: ChildProcess[] = [];
try {
  const temporal = await startTemporal();
  const api = await startApi(temporal?.address ?? "127.0.0.1:1");
  await makeDataset(api);
  const spec = { name: "bench", model: "qwen3-vl-2b", dataset: "bench@1", task: "vqa" };
  const planned = await load(
    plans,
    async (index) => await post(api, "/v1/plans", { ...spec, training: { seed: index } }),
  );
  const submitted = await load(
    submissions,
    async (index) =>
      await post(api, "/v1/runs", { ...spec, name: `bench-${index}` }, { "idempotency-key": `bench-${index}` }),
  );
  const startedSeconds = temporal === null ? null : await secondsUntilDelivered(api);
  const hasFailed = [planned, submitted].some(({ statuses }) =>
    Object.keys(statuses).some((status) => status.startsWith("5")),
  );
  const machine = {
    cores: availableParallelism(),
    node: process.version,
    database: process.env["DATABASE_URL"] === undefined ? "PGlite" : "PostgreSQL",
    temporal: temporal?.program ?? null,
  };
  process.stdout.write(
    `${JSON.stringify({ clients, plans: planned, runs: submitted, workflowsStartedAfterSeconds: startedSeconds, machine }, null, 2)}\n`,
  );
  process.exitCode = hasFailed ? 1 : 0;
} finally {
  for (const child of children.reverse()) {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
  await rm(folder, { recursive: true, force: true });
}

interface Api {
  readonly url: string;
  readonly key: string;
  readonly internalKey: string;
}

async function startApi(temporalAddress: string): Promise<Api> {
  const [key, internalKey] = ["bench-key-of-a-user", "bench-key-of-the-controller"];
  const database =
    process.env["DATABASE_URL"] === undefined
      ? { PGLITE_DIRECTORY: join(folder, "database") }
      : { DATABASE_URL: process.env["DATABASE_URL"] };
  const settings = {
    DRYDOCK_API_KEY: key,
    DRYDOCK_INTERNAL_KEY: internalKey,
    STORAGE_URL: pathToFileURL(join(folder, "storage")).href,
    TEMPORAL_ADDRESS: temporalAddress,
    DRYDOCK_ACCELERATORS: "any",
    DRYDOCK_LOG_LEVEL: "error",
  };
  const main = join(import.meta.dirname, "..", "..", "services", "api", "src", "main.ts");
  const child = spawn(process.execPath, [main], {
    env: { ...process.env, ...settings, ...database },
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return { url: (JSON.parse(line.toString()) as { url: string }).url, key, internalKey };
}

async function startTemporal(): Promise<{ address: string; program: string } | null> {
  const known = process.env["TEMPORAL_ADDRESS"];
  if (known !== undefined) return { address: known, program: known };
  const found = globSync(join(homedir(), ".cache/drydock/tools/temporal-*/temporal")).sort().at(-1);
  if (found === undefined || !existsSync(found)) return null;
  const port = await freePort();
  const child = spawn(
    found,
    [
      "server",
      "start-dev",
      "--headless",
      "--ip",
      "127.0.0.1",
      "--port",
      String(port),
      "--db-filename",
      join(folder, "temporal.db"),
      "--log-level",
      "error",
    ],
    { stdio: "ignore" },
  );
  children.push(child);
  return { address: `127.0.0.1:${port}`, program: found.split("/").at(-2)! };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function post(api: Api, path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
  const key = path.startsWith("/internal") ? api.internalKey : api.key;
  return await fetch(`${api.url}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
}

/** A data set of 1,000 rows, reported as imported. */
async function makeDataset(api: Api): Promise<void> {
  await post(api, "/v1/datasets", { name: "bench" });
  const files = new FormData();
  files.append("files", new Blob(["image,question,answer\n"]), "rows.csv");
  const sent = await fetch(`${api.url}/v1/datasets/bench/uploads`, {
    method: "POST",
    headers: { authorization: `Bearer ${api.key}` },
    body: files,
  });
  const { id } = (await sent.json()) as { id: string };
  await post(api, "/v1/datasets/bench/versions", { uploadId: id });
  const samples = Array.from({ length: 1_000 }, () => ({
    images: [[640, 480]],
    promptCharacters: 60,
    answerCharacters: 20,
  }));
  const statistics = {
    rows: 1_000,
    trainRows: 800,
    validationRows: 200,
    images: 1_000,
    pairs: 1_000,
    boxes: 0,
    tasks: { vqa: 1_000 },
    samples,
  };
  const report = { rowsRead: 1_000, rowsAccepted: 1_000, errors: 0, warnings: 0, issues: [], byCode: {} };
  const answer = await fetch(`${api.url}/internal/v1/datasets/bench/versions/1`, {
    method: "PUT",
    headers: { authorization: `Bearer ${api.internalKey}`, "content-type": "application/json" },
    body: JSON.stringify({ state: "ready", reason: null, digest: "d".repeat(64), statistics, report }),
  });
  if (!answer.ok) throw new Error(`the data set was not taken: ${await answer.text()}`);
}

/** Sends `count` requests, as many at once as there are clients, each waiting for its answer's last byte. */
async function load(count: number, send: (index: number) => Promise<Response>): Promise<Measured> {
  const milliseconds: number[] = [];
  const statuses: Record<string, number> = {};
  let next = 0;
  const began = performance.now();
  const client = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const started = performance.now();
      const response = await send(index);
      await response.arrayBuffer();
      milliseconds.push(performance.now() - started);
      statuses[response.status] = (statuses[response.status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  const seconds = (performance.now() - began) / 1000;
  milliseconds.sort((a, b) => a - b);
  const quantile = (share: number): number =>
    Math.round(milliseconds[Math.min(milliseconds.length - 1, Math.floor(share * milliseconds.length))]!);
  return {
    requests: count,
    statuses,
    perSecond: Math.round(count / seconds),
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    maximumMs: Math.round(milliseconds.at(-1)!),
  };
}

/** Seconds after the last answer until every workflow has been started; null after two minutes. */
async function secondsUntilDelivered(api: Api): Promise<number | null> {
  const began = performance.now();
  while (performance.now() - began < 120_000) {
    const metrics = await (
      await fetch(`${api.url}/metrics`, { headers: { authorization: `Bearer ${api.key}` } })
    ).text();
    if (/^drydock_outbox_depth 0$/m.test(metrics)) return Number(((performance.now() - began) / 1000).toFixed(1));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return null;
}
