import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { S3Storage, sha256 } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { createTinyData } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type RunView } from "../support/embedded.ts";
import type { Cluster } from "./cluster.ts";
import { ensureWorkerImage, workerImage } from "./images/service-image.ts";
import type { KubeObject } from "./kube-client.ts";
import { sharedCluster } from "./shared-cluster.ts";

// The main job on a cluster: api and controller on this computer, workers as pods of real kubelets, files on a real S3 server.
let cluster: Cluster;
let namespace: string;
let scratch: string;
let store: Versitygw;
let door: Server;
let storage: S3Storage;
let drydock: Embedded;

beforeAll(async () => {
  cluster = await sharedCluster();
  await cluster.importImage(await ensureWorkerImage());
  namespace = await cluster.namespace("run");
  scratch = await mkdtemp(join(tmpdir(), "drydock-run-on-cluster-"));
  store = await Versitygw.start();
  door = await openDoor(cluster.hostAddress, store.port);
  storage = new S3Storage(store.options({ prefix: "team" }));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), {
    ...store.environment(`http://${cluster.hostAddress}:${portOf(door)}`),
    STORAGE_URL: "s3://bucket/team",
    DRYDOCK_BACKEND: "kubernetes",
    KUBECONFIG: await cluster.controllerKubeconfig(),
    DRYDOCK_NAMESPACE: namespace,
    DRYDOCK_WORKER_IMAGE: workerImage,
    DRYDOCK_WORKER_IMAGE_PULL: "Never",
    DRYDOCK_MEMORY_LIMIT: String(1.5 * 2 ** 30),
    DRYDOCK_WORKER_CPU: "0.1",
    DRYDOCK_SCRATCH_GIB: "1",
    DRYDOCK_WORKER_THREADS: "1",
    CONTROLLER_HOST: cluster.hostAddress,
  });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
});
afterAll(async () => {
  await drydock.down();
  door.close();
  await store[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

/** Lets pods reach a server that listens on the loopback address. */
async function openDoor(host: string, port: number): Promise<Server> {
  const server = createServer((incoming) => {
    const outgoing = connect(port, "127.0.0.1");
    incoming.pipe(outgoing).pipe(incoming);
    incoming.once("error", () => outgoing.destroy());
    outgoing.once("error", () => incoming.destroy());
  }).listen(0, host);
  await once(server, "listening");
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address ? address.port : 0;
}

async function submit(name: string): Promise<string> {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name,
    model: "drydock-tiny-vl",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    mode: "lora",
    resources: { gpus: 2 },
    training: { maxSteps: 30, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 5 },
    evaluation: { before: false, maxNewTokens: 4 },
  });
  return id;
}

async function weightsOf({ model }: RunView): Promise<string> {
  const [name, version] = (model ?? "").split("@");
  return sha256(await storage.get(`models/${name}/${version}/adapter_model.safetensors`));
}

/** Process id, on this computer, of a rank in its pod. */
async function processOf(runId: string, rank: number): Promise<number> {
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const environment = (await readFile(`/proc/${entry}/environ`, "utf8").catch(() => "")).split("\0");
    if (environment.includes(`DRYDOCK_RUN_ID=${runId}`) && environment.includes(`DRYDOCK_RANK=${rank}`))
      return Number(entry);
  }
  throw new Error(`no process of rank ${rank} of ${runId}`);
}

async function podsOf(runId: string): Promise<KubeObject[]> {
  return await cluster.pods(namespace, `drydock.dev/run=${runId}`);
}

test("a LoRA run on two pods, one of them killed mid-run, ends with the weights of an undisturbed one", async () => {
  const undisturbed = await drydock.runIn(await submit("undisturbed"), ["succeeded", "failed"]);
  expect(undisturbed).toMatchObject({ state: "succeeded", progress: { step: 30 } });

  const id = await submit("killed");
  await drydock.runAtStep(id, 12);
  const pods = await podsOf(id);
  expect(pods).toHaveLength(2);
  kill(await processOf(id, 1));

  const run = await until("the killed run has ended", async () => {
    const found = await drydock.run(id);
    return ["succeeded", "failed"].includes(found.state) ? found : null;
  });
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 30 } });
  expect(run.attempts.map(({ failureClass }) => failureClass)).toEqual(["worker-lost", null]);
  expect(run.attempts[1]?.fromStep).toBeGreaterThan(0);
  expect(await weightsOf(run)).toBe(await weightsOf(undisturbed));
  await until("no pod is left", async () =>
    (await podsOf(id)).some((pod) => (pod["status"] as { phase: string }).phase === "Running") ? null : true,
  );
}, 600_000);
