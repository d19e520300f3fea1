import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until } from "../support/embedded.ts";
import { Findings } from "./invariants.ts";
import { OneComputer } from "./one-computer.ts";
import { expectSuccess, judge, report, slugOf, submit } from "./trial.ts";
import { WorkerWatch } from "./worker-watch.ts";

const steps = 40;
/** After the fault is over, every run ends within this. */
const livenessMs = 150_000;

let scratch: string;
let drydock: Embedded;
let site: OneComputer;
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
  site = new OneComputer(drydock);
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), { format: "openai-jsonl", task: "vqa" });
});

afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
  await report("embedded", "Chaos on one computer", all);
});

const specOf = () => ({
  model: { uri: join(scratch, "model") },
  dataset: "colours@1",
  task: "vqa",
  allowSmall: true,
  training: { maxSteps: steps, globalBatchSize: 8, learningRate: 1e-3 },
  checkpoint: { everySteps: 10 },
  evaluation: { before: false, maxNewTokens: 4 },
});

const workersOf = async (id: string) =>
  (await site.liveWorkers()).filter(({ runId }) => runId === id).map(({ pid }) => pid);
const killWorkerOf = async (id: string) => (await workersOf(id)).forEach(kill);
const killProcess = async (name: string) => kill((await drydock.processes())[name] ?? 0);
const pause = async (pids: readonly number[], milliseconds: number) => {
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  await delay(milliseconds);
  for (const pid of pids) process.kill(pid, "SIGCONT");
};

const checkpointAt = (id: string, step: number) =>
  `runs/${id}/checkpoints/step-${String(step).padStart(8, "0")}/manifest.json`;

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
  // Steps that nobody heard of are in a checkpoint: the next attempt takes them as done, and must tell them.
  "worker killed after a checkpoint, while the controller stands still": {
    inject: async (victim) => {
      const { controller = 0 } = await drydock.processes();
      process.kill(controller, "SIGSTOP");
      try {
        await until("a later checkpoint is saved", async () => await site.storage.head(checkpointAt(victim, 30)));
        await killWorkerOf(victim);
      } finally {
        process.kill(controller, "SIGCONT");
      }
    },
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
  const watch = new WorkerWatch(site);
  watch.start();
  const slug = slugOf(name);
  const victim = await submit(site, `${slug}-a`, specOf(), findings);
  const other = await submit(site, `${slug}-b`, specOf(), findings);
  await drydock.runAtStep(victim.id, 12);
  await inject(victim.id);
  for (const { id } of [victim, other]) await expectSuccess(site, id, findings);
  const { looks, doubles } = await watch.stop();
  findings.expect(1, doubles.length === 0, JSON.stringify(doubles[0]));
  expect(looks).toBeGreaterThan(10);
  if (hasBystander === true) {
    const { attempts } = await drydock.run(other.id);
    findings.expect(9, attempts.length === 1, `the other run has ${attempts.length} attempts`);
  }
  await victim.again(findings);
  await judge(site, [victim.id, other.id], findings);
  return findings;
}

// The activity that was told to stop dies with its controller: the workflow gives the order again.
test("a cancel while the controller is killed ends the run for good", async () => {
  const findings = new Findings("cancel, then kill -9 controller");
  all.push(findings);
  const { id } = await submit(site, "cancelled", specOf(), findings);
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
  await judge(site, [id], findings);
  expect(findings.violations()).toEqual([]);
});
