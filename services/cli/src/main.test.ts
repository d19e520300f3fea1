import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const main = join(import.meta.dirname, "main.ts");
const tinyBase = join(import.meta.dirname, "..", "..", "..", "models", "drydock-tiny-vl");
const folder = mkdtempSync(join(tmpdir(), "drydock-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function drydock(...values: string[]): Promise<Ended> {
  const { promise, resolve } = Promise.withResolvers<Ended>();
  const environment = { ...process.env, DRYDOCK_URL: undefined, DRYDOCK_API_KEY: undefined, DRYDOCK_STATE: undefined };
  const child = execFile(
    process.execPath,
    ["--no-warnings", main, ...values],
    { cwd: folder, env: environment },
    (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
  );
  return await promise;
}

function specFile(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const wrong = specFile(
  "wrong.yaml",
  "name: weld\nmodel: qwen3-vl-4b\ndataset: weld@3\ntask: vqa\ntrainning: {}\ntraining: { lora: { rank: 0 } }\n",
);
const broken = specFile("broken.yaml", "name: [weld\n");
const fine = specFile("fine.yaml", "name: weld\nmodel: qwen3-vl-4b\ndataset: weld@3\ntask: vqa\n");

test.concurrent.each<[name: string, values: string[], code: number, sentence: string]>([
  ["an unknown command", ["trian"], 2, "unknown command 'trian'"],
  ["an option that is missing", ["predict", "model"], 2, "required option '--image <file>' not specified"],
  [
    "a number that is none",
    ["run", "list", "--limit", "many"],
    2,
    '--limit takes a whole number of at least 1, not "many"',
  ],
  ["a spec with wrong fields", ["plan", wrong, "--url", "http://127.0.0.1:9", "--key", "k"], 64, "training.lora.rank"],
  [
    "a spec that is no YAML",
    ["plan", broken, "--url", "http://127.0.0.1:9", "--key", "k"],
    64,
    "neither YAML nor JSON",
  ],
  [
    "a spec that is not there",
    ["plan", "nowhere.yaml", "--url", "http://127.0.0.1:9", "--key", "k"],
    64,
    "nowhere.yaml cannot be read: does it exist?",
  ],
  ["no server", ["run", "list"], 4, "start one with `drydock up`"],
  [
    "a server that is away",
    ["run", "show", "run_1", "--url", "http://127.0.0.1:9", "--key", "k"],
    75,
    "does not answer",
  ],
  [
    "a folder that is not there",
    ["predict", "./nowhere", "--image", "a.png", "--prompt", "?"],
    4,
    "there is no folder ./nowhere",
  ],
  [
    "an unknown quantization",
    ["model", "quantize", "./nowhere", "--to", "int3"],
    64,
    'quantization "int3" is not known: use one of nf4, fp4, int4, int8',
  ],
  ["an unknown export", ["model", "export", "./nowhere", "--to", "gguf", "--out", "x"], 64, '--to "gguf" is not known'],
  [
    "a drawing that is no PNG",
    ["predict", "./x", "--image", "a.png", "--prompt", "?", "--draw", "a.gif"],
    2,
    "--draw writes a PNG",
  ],
])("%s is one clear sentence, without a stack trace", async (_name, values, code, sentence) => {
  const ended = await drydock(...values);
  expect(ended.stderr).toContain(sentence);
  expect(ended.stderr).not.toMatch(/\n\s+at /);
  expect(ended).toMatchObject({ code, stdout: "" });
});

test("an import of a path that is not there makes no data set", async () => {
  const asked: string[] = [];
  const server = createServer((request, answer) => {
    asked.push(`${request.method} ${request.url}`);
    answer.writeHead(500).end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const { stderr, code } = await drydock("dataset", "import", "weld", "./nowhere", "--url", url, "--key", "k");
  server.close();
  expect(stderr).toContain("./nowhere cannot be read: does it exist?");
  expect({ code, asked }).toEqual({ code: 64, asked: [] });
});

test("Ctrl-C while an evaluation is waited for ends with 130 and says that it goes on", async () => {
  const child: { process?: ReturnType<typeof execFile> } = {};
  const now = "2026-01-01T00:00:00.000Z";
  const server = createServer((request, answer) => {
    const evaluation = { id: "ev_1", phase: "standalone", state: "running", message: "", samples: 0, seconds: null };
    const rest = { runId: null, step: null, resultsKey: null, createdAt: now, updatedAt: now, scores: null };
    const spec = { model: "qwen3-vl-4b", dataset: "weld@3", task: "vqa", maxNewTokens: 128, image: {} };
    answer.writeHead(request.method === "POST" ? 201 : 200, { "content-type": "application/json" });
    answer.end(JSON.stringify({ ...evaluation, ...rest, spec }));
    if (request.method === "GET") child.process?.kill("SIGINT");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const values = ["evaluate", "create", "--model", "qwen3-vl-4b", "--dataset", "weld@3", "--task", "vqa"];
  const connection = ["--url", `http://127.0.0.1:${port}`, "--key", "k"];
  const { promise, resolve } = Promise.withResolvers<string>();
  const started = execFile(
    process.execPath,
    ["--no-warnings", main, ...values, ...connection],
    (_error, _out, errors) => resolve(errors),
  );
  child.process = started;
  expect(await promise).toContain("Stopped waiting; the evaluation goes on.");
  expect(started.exitCode).toBe(130);
  server.close();
});

test("with --json an error is an object with its code and fields", async () => {
  const { stderr, code } = await drydock("plan", wrong, "--json", "--url", "http://127.0.0.1:9", "--key", "k");
  const { error } = JSON.parse(stderr) as { error: { code: string; details: { path: string }[] } };
  expect(code).toBe(64);
  expect(error.code).toBe("invalid_run_spec");
  expect(error.details.map(({ path }) => path)).toContain("training.lora.rank");
});

test("doctor names what it looked at", async () => {
  const { stdout } = await drydock("doctor", "--json", "--port", "7421");
  const { findings } = JSON.parse(stdout) as { findings: { name: string; status: string }[] };
  expect(findings.map(({ name }) => name)).toEqual([
    "node",
    "memory",
    "cores",
    "temporal",
    "disk",
    "sharp",
    "onnxruntime",
    "port",
  ]);
  expect(fine).toContain("fine.yaml");
});

test("model quantize shows every layer's error and the comparison with the model as it was", async () => {
  const data = join(folder, "rows.jsonl");
  const turns = [
    { role: "user", content: "What grows on trees?" },
    { role: "assistant", content: "An apple." },
  ];
  writeFileSync(data, `${JSON.stringify({ messages: turns })}\n`);
  const options = ["--to", "nf4", "--out", "tiny-nf4", "--data", data, "--task", "chat", "--max-new-tokens", "4"];
  const { code, stdout } = await drydock("model", "quantize", tinyBase, ...options);
  expect(code).toBe(0);
  expect(stdout).toMatch(/model\.language_model\.layers\.3\.mlp\.down_proj +\d\.\d\d % +128\.0 KiB +18\.\d KiB/);
  expect(stdout).toMatch(/^perplexity: +\d+\.\d{4} → \d+\.\d{4} \([+-]\d+\.\d\d %\)$/m);
  expect(stdout).toMatch(/^folder: .*tiny-nf4, the report in quantization\.json$/m);
});
