// Records the workflow histories that the replay test holds, from a Drydock on this computer:
//   node scripts/record-histories.ts [dataset | evaluationRun | fineTuneRun | sweep | pipeline]
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { findTemporal } from "../services/cli/src/up/temporal-server.ts";
import { createTinyData, createTinyModel } from "../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type EvaluationView } from "../test/support/embedded.ts";

const run = promisify(execFile);
const golden = join(import.meta.dirname, "..", "test", "golden", "histories");
const scratch = await mkdtemp(join(tmpdir(), "drydock-histories-"));
const drydock = new Embedded(join(scratch, "state"));
try {
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), { task: "vqa" });
  const only = process.argv[2];
  if (only === undefined || only === "dataset") await recordDataset();
  if (only === undefined || only === "evaluationRun") await recordEvaluation();
  if (only === undefined || only === "fineTuneRun") await recordRuns();
  if (only === undefined || only === "sweep") await recordSweeps();
  if (only === undefined || only === "pipeline") await recordPipelines();
} finally {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
}

async function recordDataset(): Promise<void> {
  const version = await drydock.call<{ id: string }>("GET", "/v1/datasets/colours/versions/1");
  await record("dataset", "imported", version.id);
}

async function recordEvaluation(): Promise<void> {
  const asked = {
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    maxSamples: 2,
    maxNewTokens: 2,
  };
  await record("evaluationRun", "succeeded", await evaluateUntil("succeeded", asked));
  await record("evaluationRun", "sharded", await evaluateUntil("succeeded", { ...asked, shards: 2 }));
  const damaged = await damagedModel();
  await record(
    "evaluationRun",
    "shard-failed",
    await evaluateUntil("failed", { ...asked, model: { uri: damaged }, shards: 2 }),
  );
  for (const shards of [1, 2]) {
    const endless = { ...asked, maxSamples: 8, maxNewTokens: 2000, shards };
    const { id } = await drydock.call<{ id: string }>("POST", "/v1/evaluations", endless);
    await until("workers answer", async () => ((await drydock.workers()).length === shards ? true : null));
    await drydock.call("POST", `/v1/evaluations/${id}/cancel`, {});
    await stateOf(`/v1/evaluations/${id}`, "cancelled");
    await record("evaluationRun", shards === 1 ? "cancelled" : "shards-cancelled", id);
  }
}

async function evaluateUntil(state: EvaluationView["state"], asked: object): Promise<string> {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/evaluations", asked);
  await stateOf(`/v1/evaluations/${id}`, state);
  return id;
}

/** Waits until what is at a path is in a state. */
async function stateOf(path: string, state: string): Promise<void> {
  await until(`${path} is ${state}`, async () =>
    (await drydock.call<{ state: string }>("GET", path)).state === state ? true : null,
  );
}

async function recordRuns(): Promise<void> {
  const plain = await submit("plain");
  await drydock.runIn(plain, ["succeeded"]);
  await record("fineTuneRun", "succeeded", plain);

  const lost = await submit("worker-lost");
  await drydock.runAtStep(lost, 15);
  for (const pid of await drydock.workers()) kill(pid);
  await drydock.runIn(lost, ["succeeded"]);
  await record("fineTuneRun", "worker-lost", lost);

  const paused = await submit("paused");
  await drydock.runAtStep(paused, 15);
  await drydock.call("POST", `/v1/runs/${paused}/pause`);
  await drydock.runIn(paused, ["paused"]);
  await drydock.call("POST", `/v1/runs/${paused}/resume`);
  await drydock.runIn(paused, ["succeeded"]);
  await record("fineTuneRun", "paused-and-resumed", paused);

  const resized = await submit("resized");
  await drydock.runAtStep(resized, 15);
  await drydock.call("POST", `/v1/runs/${resized}/resize`, { gpus: 2 });
  await drydock.runIn(resized, ["succeeded"]);
  await record("fineTuneRun", "resized", resized);

  const cancelled = await submit("cancelled");
  await drydock.runAtStep(cancelled, 15);
  await drydock.call("POST", `/v1/runs/${cancelled}/cancel`);
  await drydock.runIn(cancelled, ["cancelled"]);
  await record("fineTuneRun", "cancelled", cancelled);

  const refused = await submit("bad-config", await damagedModel());
  await drydock.runIn(refused, ["failed"]);
  await record("fineTuneRun", "bad-config", refused);
}

async function damagedModel(): Promise<string> {
  const damaged = join(scratch, "damaged");
  await cp(join(scratch, "model"), damaged, { recursive: true });
  await writeFile(join(damaged, "model.safetensors"), "not a safetensors file");
  return damaged;
}

async function recordSweeps(): Promise<void> {
  const run = {
    name: "swept",
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { globalBatchSize: 8 },
    evaluation: { before: false, maxNewTokens: 2 },
  };
  const space = { "training.learningRate": { type: "log", low: 1e-5, high: 1e-2 } };
  const search = { kind: "asha", trials: 3, seed: 1, minSteps: 4, maxSteps: 12, reductionFactor: 2 };
  const asked = { name: "rates", run, space, search, metric: "exact-match", maxParallel: 2 };
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/sweeps", asked);
  await stateOf(`/v1/sweeps/${id}`, "succeeded");
  await record("sweep", "succeeded", id);

  const long = { ...run, training: { globalBatchSize: 8, maxSteps: 2000 } };
  const random = { ...asked, run: long, search: { kind: "random", trials: 3, seed: 1 } };
  const paused = await drydock.call<{ id: string }>("POST", "/v1/sweeps", random);
  await until("trials train", async () => ((await drydock.workers()).length === 2 ? true : null));
  await drydock.call("POST", `/v1/sweeps/${paused.id}/pause`, {});
  await stateOf(`/v1/sweeps/${paused.id}`, "paused");
  await until("no trial trains", async () => ((await drydock.workers()).length === 0 ? true : null));
  await drydock.call("POST", `/v1/sweeps/${paused.id}/resume`, {});
  await until("trials train again", async () => ((await drydock.workers()).length === 2 ? true : null));
  await drydock.call("POST", `/v1/sweeps/${paused.id}/cancel`, {});
  await stateOf(`/v1/sweeps/${paused.id}`, "cancelled");
  await record("sweep", "paused-resumed-cancelled", paused.id);
}

async function recordPipelines(): Promise<void> {
  const run = {
    name: "piped",
    model: { uri: join(scratch, "model") },
    task: "vqa",
    allowSmall: true,
    training: { globalBatchSize: 8, maxSteps: 4 },
    evaluation: { before: false, maxNewTokens: 2 },
  };
  const gate = { type: "gate", rules: ["candidate.exact-match >= production.exact-match"], withoutProduction: "pass" };
  const steps = [{ type: "validate" }, { type: "train", run }, { type: "evaluate" }, gate, { type: "promote" }];
  await drydock.call("POST", "/v1/pipelines", { name: "nightly", dataset: "colours", steps });
  await record("pipeline", "succeeded", await pipelineRunUntil("nightly", "succeeded"));

  const strict = { ...gate, rules: ["candidate.exact-match >= 101"] };
  const refusing = [{ type: "train", run }, { type: "evaluate" }, strict];
  await drydock.call("POST", "/v1/pipelines", { name: "strict", dataset: "colours", steps: refusing });
  await record("pipeline", "refused", await pipelineRunUntil("strict", "refused"));

  const long = [{ type: "train", run: { ...run, training: { globalBatchSize: 8, maxSteps: 2000 } } }];
  await drydock.call("POST", "/v1/pipelines", { name: "long", dataset: "colours", steps: long });
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/pipelines/long/trigger", {});
  await until("it trains", async () => ((await drydock.workers()).length === 1 ? true : null));
  await drydock.call("POST", `/v1/pipeline-runs/${id}/cancel`, {});
  await stateOf(`/v1/pipeline-runs/${id}`, "cancelled");
  await record("pipeline", "cancelled", id);
}

async function pipelineRunUntil(name: string, state: string): Promise<string> {
  const { id } = await drydock.call<{ id: string }>("POST", `/v1/pipelines/${name}/trigger`, {});
  await stateOf(`/v1/pipeline-runs/${id}`, state);
  return id;
}

async function submit(name: string, model = join(scratch, "model")): Promise<string> {
  const training = { maxSteps: 60, globalBatchSize: 8 };
  const rest = { checkpoint: { everySteps: 10 }, evaluation: { before: false, maxNewTokens: 2 } };
  const spec = { name, model: { uri: model }, dataset: "colours@1", task: "vqa", allowSmall: true, training, ...rest };
  return (await drydock.call<{ id: string }>("POST", "/v1/runs", spec)).id;
}

/** Writes a closed workflow's history to `test/golden/histories/<workflow>/<case>.json`, without this computer's names. */
async function record(workflow: string, name: string, workflowId: string): Promise<void> {
  const { ports } = JSON.parse(await readFile(join(scratch, "state", "settings.json"), "utf8")) as {
    ports: { temporal: number };
  };
  const address = ["--address", `127.0.0.1:${ports.temporal}`];
  await run((await findTemporal()) ?? "temporal", ["workflow", "result", "--workflow-id", workflowId, ...address]);
  const { stdout } = await run(
    (await findTemporal()) ?? "temporal",
    ["workflow", "show", "--workflow-id", workflowId, "--output", "json", ...address],
    { maxBuffer: 1 << 26 },
  );
  const history = JSON.stringify(
    JSON.parse(stdout),
    (key, value: unknown) => (key === "identity" ? "recorder" : value),
    1,
  );
  await mkdir(join(golden, workflow), { recursive: true });
  await writeFile(join(golden, workflow, `${name}.json`), `${history}\n`);
}
