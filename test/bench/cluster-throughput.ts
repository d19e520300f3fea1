import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createLogger } from "@drydock/kit";
import { KubeApi } from "../../services/controller/src/kubernetes/kube-api.ts";
import { connectToCluster } from "../../services/controller/src/kubernetes/kube-connection.ts";
import { ListWatch } from "../../services/controller/src/kubernetes/list-watch.ts";
import type { PodObject } from "../../services/controller/src/kubernetes/kube-objects.ts";
import { Cluster } from "../cluster/cluster.ts";
import { Component } from "../cluster/component.ts";
import { jobOf } from "../cluster/job-fixtures.ts";
import { quickImage } from "../cluster/simulated-nodes.ts";
import { burst, inLanes, type Work } from "./cluster-burst.ts";
import { sum, writesBetween, writesByAgent, writesByResource, writesWhenQuiet } from "./cluster-writes.ts";

// A burst of runs on a cluster of simulated nodes, through Drydock's admission and back end, and beside it, on the same
// cluster, as plain Jobs in a queue of Kueue. A run's time is from the start of the burst until its last pod has a node;
// pods end as soon as they run. Writes count until every Job has ended and nobody writes any more; finished Jobs are not yet
// cleaned up then, by neither. `make bench-cluster`; the full size is --nodes 1000 --runs 5000 --gangs 500; --agents tells
// who wrote what from an audit log, which costs the API server some time.

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "100" },
    runs: { type: "string", default: "500" },
    gangs: { type: "string", default: "50" },
    ranks: { type: "string", default: "4" },
    gpus: { type: "string", default: "8" },
    lanes: { type: "string", default: "32" },
    seconds: { type: "string", default: "1200" },
    subjects: { type: "string", default: "drydock,kueue" },
    agents: { type: "boolean", default: false },
  },
});
const [nodes, runs, gangs, ranks, gpus, lanes] = (["nodes", "runs", "gangs", "ranks", "gpus", "lanes"] as const).map(
  (name) => Number(values[name]),
) as [number, number, number, number, number, number];
const gpusPerNode = 8;
const report = join(import.meta.dirname, "..", "..", ".drydock", "bench");

/** What was measured of one subject. */
interface Outcome {
  readonly subject: string;
  readonly namespace: string;
  readonly bound: number;
  readonly p50Seconds: number;
  readonly p99Seconds: number;
  readonly gangP99Seconds: number;
  readonly runsPerSecond: number;
  readonly writesPerRun: number;
  readonly writesByResource: Readonly<Record<string, number>>;
  /** Null unless asked for. */
  readonly writesByAgent: Readonly<Record<string, number>> | null;
  readonly peakMebibytes: number;
}

const works = burst(runs, gangs, ranks, gpus);
await using cluster = await Cluster.start({
  nodes: [{ prefix: "h100", count: nodes, product: "NVIDIA-H100-80GB-HBM3" }],
  kueue: true,
  hasAudit: values.agents,
  // A thousand nodes that tell every two seconds that they live would be measured too.
  heartbeatMs: 60_000,
  nodeGraceSeconds: 300,
  tell: (line) => process.stderr.write(`${line}\n`),
});
await raiseQuota();
const subjects = { drydock: runDrydock, kueue: runKueue };
const outcomes: Outcome[] = [];
for (const [name, subject] of Object.entries(subjects))
  if (values.subjects.split(",").includes(name)) {
    if (outcomes.length > 0) await untilEmpty(outcomes.at(-1)?.namespace ?? "");
    outcomes.push(await measure(name, subject));
  }
const text = [
  `Burst of ${runs} runs of one GPU and ${gangs} gangs of ${ranks} × ${gpus} GPUs on ${nodes} simulated nodes of ${gpusPerNode} GPUs; ${cpus().length} × ${cpus()[0]?.model ?? "processor"}, Node ${process.version}`,
  "",
  "| subject | runs bound | p50 s | p99 s | gangs p99 s | runs/s | API writes per run | controller peak MiB |",
  "| --- | --: | --: | --: | --: | --: | --: | --: |",
  ...outcomes.map(
    (each) =>
      `| ${each.subject} | ${each.bound} of ${works.length} | ${each.p50Seconds.toFixed(2)} | ${each.p99Seconds.toFixed(2)} | ${each.gangP99Seconds.toFixed(2)} | ${each.runsPerSecond.toFixed(1)} | ${each.writesPerRun.toFixed(1)} | ${each.peakMebibytes.toFixed(0)} |`,
  ),
  "",
  ...outcomes.map(({ subject, writesByResource: parts }) => `Writes of ${subject} per run: ${listed(parts)}`),
  ...outcomes.flatMap(({ subject, writesByAgent: parts }) =>
    parts === null ? [] : [`By whom, of ${subject}: ${listed(parts)}`],
  ),
  "",
].join("\n");
await mkdir(report, { recursive: true });
await writeFile(join(report, "cluster-throughput.md"), text);
process.stdout.write(text);

/** Watches the pods of a new namespace while `subject` places the burst in it. */
async function measure(
  name: string,
  subject: (namespace: string) => Promise<{ readonly startedMs: number; readonly peakBytes: () => Promise<number> }>,
): Promise<Outcome> {
  const namespace = await cluster.namespace(`bench-${name}`);
  const boundAtMs = new Map<string, number>();
  const watch = new ListWatch<PodObject>({
    api: new KubeApi(await connectToCluster(cluster.plane.adminKubeconfig)),
    path: `/api/v1/namespaces/${namespace}/pods`,
    logger: createLogger("bench", { DRYDOCK_LOG_LEVEL: "error" }),
  });
  watch.subscribe((pod, object) => {
    if (object?.spec?.nodeName && !boundAtMs.has(pod)) boundAtMs.set(pod, performance.now());
  });
  await watch.start();
  const before = await writesByResource(cluster.admin);
  const fromMs = Date.now();
  const { startedMs, peakBytes } = await subject(namespace);
  const pods = works.reduce((sum, work) => sum + work.ranks, 0);
  const deadline = performance.now() + Number(values.seconds) * 1000;
  while (boundAtMs.size < pods && performance.now() < deadline) await delay(50);
  const peak = await peakBytes();
  const written = writesBetween(before, await writesWhenQuiet(cluster.admin, deadline));
  await watch.stop();
  const outcome = {
    subject: name,
    namespace,
    ...statistics(boundAtMs, startedMs),
    writesPerRun: sum(written) / works.length,
    writesByResource: perRun(written),
    writesByAgent: values.agents ? perRun(await writesByAgent(cluster.plane.folder, fromMs)) : null,
    peakMebibytes: peak / 2 ** 20,
  };
  // Told at once: what follows may take its time.
  process.stderr.write(`${JSON.stringify(outcome)}\n`);
  return outcome;
}

/** Pods are named after their Job: `<job>-<rank>-<random>`. */
function statistics(boundAtMs: ReadonlyMap<string, number>, startedMs: number) {
  const byRun = new Map<string, number[]>();
  for (const [pod, atMs] of boundAtMs) {
    const run = /run-\d{6}/.exec(pod)?.[0] ?? pod;
    byRun.set(run, [...(byRun.get(run) ?? []), (atMs - startedMs) / 1000]);
  }
  const whole = works.filter(({ name, ranks: pods }) => byRun.get(name)?.length === pods);
  const secondsOf = ({ name }: Work): number => Math.max(...(byRun.get(name) ?? []));
  const seconds = whole.map(secondsOf).toSorted((a, b) => a - b);
  const ofGangs = whole
    .filter((work) => work.ranks > 1)
    .map(secondsOf)
    .toSorted((a, b) => a - b);
  return {
    bound: whole.length,
    p50Seconds: quantile(seconds, 0.5),
    p99Seconds: quantile(seconds, 0.99),
    gangP99Seconds: quantile(ofGangs, 0.99),
    runsPerSecond: whole.length / (seconds.at(-1) ?? Number.NaN),
  };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Drydock's controller side in a process of its own. */
async function runDrydock(namespace: string) {
  await keepKueueOut(namespace);
  const workFile = join(cluster.plane.folder, "burst.json");
  await writeFile(workFile, JSON.stringify(works));
  const program = join(import.meta.dirname, "cluster-throughput-subject.ts");
  const parameters = [cluster.plane.adminKubeconfig, namespace, lanes, workFile].map(String);
  const child = spawn(process.execPath, [program, ...parameters], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, "exit");
  await lines.next();
  const startedMs = performance.now();
  return {
    startedMs,
    peakBytes: async () => {
      const { value } = (await lines.next()) as { value: string };
      await ended;
      await rm(workFile, { force: true });
      return (JSON.parse(value) as { peakBytes: number }).peakBytes;
    },
  };
}

/** A namespace's queue named `default` would take every Job, labelled or not. */
async function keepKueueOut(namespace: string): Promise<void> {
  const queues = `/apis/kueue.x-k8s.io/v1beta2/namespaces/${namespace}/localqueues`;
  for (const { metadata } of await cluster.admin.list(queues))
    await cluster.admin.call("DELETE", `${queues}/${metadata.name}`);
  await cluster.admin.patch(`/api/v1/namespaces/${namespace}`, { metadata: { labels: { "drydock.dev/runs": null } } });
}

/** The same shapes as plain Jobs with Kueue's label. */
async function runKueue(namespace: string) {
  const kueue = cluster.component("kueue");
  if (!(kueue instanceof Component)) throw new Error("Kueue is not a process of ours");
  const { pid } = kueue;
  const startedMs = performance.now();
  await inLanes(works, lanes, async ({ name, ranks: pods, gpus: perPod }) => {
    const labels = { "kueue.x-k8s.io/queue-name": "default" };
    const job = jobOf(name, { ranks: pods, gpus: perPod, image: quickImage, labels });
    await cluster.admin.call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, job);
  });
  return {
    startedMs,
    peakBytes: async () => {
      const status = await readFile(`/proc/${pid}/status`, "utf8");
      return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) * 1024;
    },
  };
}

/** The queue may use every GPU of the cluster. */
async function raiseQuota(): Promise<void> {
  const path = "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/drydock-default";
  const queue = await cluster.admin.call<{ spec: { resourceGroups: object[] } }>("GET", path);
  const resources = [{ name: "nvidia.com/gpu", nominalQuota: nodes * gpusPerNode }];
  const group = { coveredResources: ["nvidia.com/gpu"], flavors: [{ name: "nvidia-h100-80gb", resources }] };
  await cluster.admin.patch(path, { spec: { ...queue.spec, resourceGroups: [group] } });
}

function perRun(counts: ReadonlyMap<string, number>): Record<string, number> {
  const shares = [...counts].map(([name, number]): [string, number] => [name, number / works.length]);
  return Object.fromEntries(shares.filter(([, number]) => number >= 0.005));
}

function listed(shares: Readonly<Record<string, number>>): string {
  return Object.entries(shares)
    .map(([name, number]) => `${name} ${number.toFixed(2)}`)
    .join(", ");
}

/** The next subject has the cluster to itself. */
async function untilEmpty(namespace: string): Promise<void> {
  await cluster.admin.call("DELETE", `/api/v1/namespaces/${namespace}`);
  while ((await cluster.admin.find(`/api/v1/namespaces/${namespace}`)) !== null) await delay(500);
}
