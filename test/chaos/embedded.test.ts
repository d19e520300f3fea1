import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until } from "../support/embedded.ts";
import { Findings, reportTable } from "./invariants.ts";
import { Oracle } from "./oracle.ts";
import { liveWorkers, WorkerWatch } from "./worker-watch.ts";

const reportFolder = join(import.meta.dirname, "..", "..", ".drydock", "chaos");
const steps = 40;
/** After the fault is over, every run ends within this. */
const livenessMs = 150_000;

let scratch: string;
let drydock: Embedded;
const all: Findings[] = [];

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-chaos-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), {
    DRYDOCK_WORKER_SLOTS: "2",
    DRYDOCK_WORKER_THREADS: "1",
    DRYDOCK_REPORT_DEADLINE_SECONDS: "12",
  });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), { format: "openai-jsonl", task: "vqa" });
});

afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
  const report = reportTable(all);
  await mkdir(reportFolder, { recursive: true });
  await writeFile(join(reportFolder, "report.md"), report);
  process.stdout.write(`\n${report}`);
});

/** The same submission three times at once, and again later: one run. */
async function submit(name: string, findings: Findings): Promise<{ id: string; again: () => Promise<void> }> {
  const spec = {
    name,
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: steps, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 10 },
    evaluation: { before: false, maxNewTokens: 4 },
  };
  const send = async () => await drydock.request("POST", "/v1/runs", spec, { "idempotency-key": name });
  const answers = await Promise.all([send(), send(), send()]);
  const ids = answers.map(({ body }) => (body as { id?: string }).id);
  findings.expect(11, new Set(ids).size === 1 && ids[0] !== undefined, `${name} was submitted as ${ids.join(", ")}`);
  return {
    id: ids[0] ?? "",
    again: async () => {
      const repeated = (await send()).body as { id?: string };
      findings.expect(11, repeated.id === ids[0], `${name} was submitted again as ${repeated.id}`);
    },
  };
}

const workersOf = async (id: string) =>
  (await liveWorkers(drydock.stateDirectory)).filter(({ runId }) => runId === id).map(({ pid }) => pid);
const killWorkerOf = async (id: string) => (await workersOf(id)).forEach(kill);
const killProcess = async (name: string) => kill((await drydock.processes())[name] ?? 0);
const pause = async (pids: readonly number[], milliseconds: number) => {
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  await delay(milliseconds);
  for (const pid of pids) process.kill(pid, "SIGCONT");
};

/** Asks the oracle. What it saw is kept beside the report when an invariant is broken. */
async function judge(runIds: readonly string[], findings: Findings): Promise<void> {
  const evidence = await new Oracle(drydock).check(runIds, findings);
  if (findings.violations().length > 0) {
    await mkdir(reportFolder, { recursive: true });
    await writeFile(join(reportFolder, `${slugOf(findings.fault)}.json`), JSON.stringify(evidence, null, 2));
  }
}

function slugOf(fault: string): string {
  return fault
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 40);
}

interface Fault {
  readonly inject: (victim: string) => Promise<void>;
  /** The other run must not notice. */
  readonly hasBystander?: boolean;
}

/** Faults of the reference's section D1 that a computer of one's own knows. `test/e2e` proves the same weights; here the invariants count. */
const faults: Readonly<Record<string, Fault>> = {
  "kill -9 worker": { inject: killWorkerOf, hasBystander: true },
  "kill -9 controller": { inject: async () => await killProcess("controller") },
  "kill -9 controller and worker": {
    inject: async (victim) => {
      await killProcess("controller");
      await killWorkerOf(victim);
    },
  },
  "kill -9 api": { inject: async () => await killProcess("api") },
  "kill -9 Temporal": { inject: async () => await killProcess("temporal") },
  "kill -9 api, Temporal and controller": {
    inject: async () => {
      for (const name of ["api", "temporal", "controller"]) await killProcess(name);
    },
  },
  // Its own silence is not the worker's: nobody is ended as hung when it runs again.
  "controller stopped for 20 s, longer than a heartbeat": {
    inject: async () => await pause([(await drydock.processes())["controller"] ?? 0], 20_000),
  },
  "worker hangs": {
    inject: async (victim) => {
      for (const pid of await workersOf(victim)) process.kill(pid, "SIGSTOP");
    },
    hasBystander: true,
  },
};

test.each(Object.entries(faults))(
  "every invariant holds after: %s",
  async (name, fault) => {
    const findings = await breakAndJudge(name, fault);
    expect(findings.violations()).toEqual([]);
  },
  livenessMs + 60_000,
);

async function breakAndJudge(name: string, { inject, hasBystander }: Fault): Promise<Findings> {
  const findings = new Findings(name);
  all.push(findings);
  const watch = new WorkerWatch(drydock.stateDirectory);
  watch.start();
  const slug = slugOf(name);
  const victim = await submit(`${slug}-a`, findings);
  const other = await submit(`${slug}-b`, findings);
  await drydock.runAtStep(victim.id, 12);
  await inject(victim.id);
  for (const { id } of [victim, other]) {
    const over = await drydock.runIn(id, ["succeeded", "failed", "cancelled"]).catch(() => null);
    findings.expect(
      6,
      over?.state === "succeeded",
      `run ${id} is ${over?.state ?? "not over"}: ${over?.message ?? ""}`,
    );
  }
  const { looks, doubles } = await watch.stop();
  findings.expect(1, doubles.length === 0, JSON.stringify(doubles[0]));
  expect(looks).toBeGreaterThan(10);
  if (hasBystander === true) {
    const { attempts } = await drydock.run(other.id);
    findings.expect(9, attempts.length === 1, `the other run has ${attempts.length} attempts`);
  }
  await victim.again();
  await judge([victim.id, other.id], findings);
  return findings;
}

// The activity that was told to stop dies with its controller: the workflow gives the order again.
test("a cancel while the controller is killed ends the run for good", async () => {
  const findings = new Findings("cancel, then kill -9 controller");
  all.push(findings);
  const { id } = await submit("cancelled", findings);
  await drydock.runAtStep(id, 5);
  await drydock.call("POST", `/v1/runs/${id}/cancel`);
  await killProcess("controller");
  const run = await drydock.runIn(id, ["succeeded", "failed", "cancelled"]);
  findings.expect(6, run.message !== "", `run ${id} is ${run.state} and says nothing`);
  findings.expect(7, run.state === "cancelled", `the cancelled run is ${run.state}`);
  const isGone = await until(
    "no worker remains",
    async () => ((await workersOf(id)).length === 0 ? true : null),
    60_000,
  ).catch(() => false);
  findings.expect(7, isGone, "a worker of the cancelled run lives a minute later");
  await judge([id], findings);
  expect(findings.violations()).toEqual([]);
});
