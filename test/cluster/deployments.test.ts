import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { S3Storage } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { findPostgres, startPostgres, type TestPostgres } from "../../services/api/test/support/postgres.ts";
import { createTinyData } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until } from "../support/embedded.ts";
import type { Cluster } from "./cluster.ts";
import { ensureServiceImage, imageName } from "./images/service-image.ts";
import type { KubeObject } from "./kube-client.ts";
import { applyAll, collectionOf, readManifests } from "./manifests.ts";
import { ServiceDoors } from "./service-doors.ts";
import { sharedCluster } from "./shared-cluster.ts";
import { TemporalServer } from "./temporal-server.ts";

/*
 * Drydock as k8s/system deploys it: api and controller as pods of real kubelets, with the accounts, rights and limits of
 * the manifests; PostgreSQL, Temporal and object storage are servers of this computer. What the manifests cannot know
 * here is changed: names of images, the addresses of those servers, and names of Services, since there is no DNS.
 */
const system = "drydock-system";
const apiKey = `dk_${randomBytes(16).toString("hex")}`;

let cluster: Cluster;
let namespace: string;
let scratch: string;
let postgres: TestPostgres;
let temporal: TemporalServer;
let store: Versitygw;
let doors: ServiceDoors;
let drydock: Embedded;
const applied: KubeObject[] = [];

beforeAll(async () => {
  cluster = await sharedCluster();
  for (const service of ["api", "controller", "worker"] as const)
    await cluster.importImage(await ensureServiceImage(service));
  namespace = await cluster.namespace("deployed");
  scratch = await mkdtemp(join(tmpdir(), "drydock-deployments-"));
  await createTinyData(join(scratch, "data"), 40);
  const programs = findPostgres();
  if (programs === null)
    throw new Error("no PostgreSQL found: install Debian's postgresql package, or run npm install");
  [postgres, temporal, store] = await Promise.all([startPostgres(programs), TemporalServer.start(), Versitygw.start()]);
  doors = new ServiceDoors(cluster.hostAddress);
  await openServices();
  await apply(await settings());
  for (const name of ["api", "controller"]) await apply(await manifestsOf(name));
  drydock = Embedded.at(`http://${await serviceAddress("drydock-api")}`, apiKey);
}, 300_000);
afterAll(async () => {
  for (const object of applied.toReversed()) await cluster.admin.call("DELETE", pathOf(object)).catch(() => undefined);
  await until("the pods of the deployments are gone", async () => ((await podsOf("api")).length === 0 ? true : null));
  await doors[Symbol.asyncDispose]();
  await Promise.all([store[Symbol.asyncDispose](), temporal.stop(), postgres.remove()]);
  await rm(scratch, { recursive: true, force: true });
});

/** The API server's own Service, by which pods find it. */
async function openServices(): Promise<void> {
  const server = new URL(cluster.connection.server);
  await doors.openAt("10.96.0.1", 443, async () => ({ host: server.hostname, port: Number(server.port) }));
}

async function settings(): Promise<KubeObject[]> {
  const local = (port: number) => async () => ({ host: "127.0.0.1", port });
  const database = new URL(postgres.url);
  const databaseDoor = await doors.open(local(Number(database.port)));
  const secret = {
    DATABASE_URL: postgres.url.replace(database.host, databaseDoor),
    DRYDOCK_API_KEY: apiKey,
    DRYDOCK_INTERNAL_KEY: randomBytes(16).toString("hex"),
    ...store.environment(`http://${await doors.open(local(store.port))}`),
    STORAGE_URL: "s3://bucket/team",
    TEMPORAL_ADDRESS: await doors.open(local(temporal.port)),
  };
  const metadata = { name: "drydock", namespace: system };
  return [{ apiVersion: "v1", kind: "Secret", metadata, stringData: secret } as unknown as KubeObject];
}

/** The manifests of one process, with what a cluster without a registry and without DNS needs changed. */
async function manifestsOf(name: string): Promise<KubeObject[]> {
  const objects = await readManifests(resolve(import.meta.dirname, "..", "..", "k8s", "system", `${name}.yaml`));
  const services = objects.filter(({ kind }) => kind === "Service");
  await apply(services);
  for (const service of services) await openService(service);
  const aliases = [
    { ip: (await serviceAddress("drydock-api")).split(":")[0], hostnames: [`drydock-api.${system}.svc`] },
  ];
  const changes = {
    DRYDOCK_ACCELERATORS: "local",
    DRYDOCK_CONTROLLER_URL: name === "controller" ? `http://${await serviceAddress("drydock-controller")}` : "",
    DRYDOCK_NAMESPACE: namespace,
    DRYDOCK_WORKER_IMAGE: imageName("worker"),
    DRYDOCK_WORKER_IMAGE_PULL: "Never",
    DRYDOCK_WORKER_CPU: "0.1",
    DRYDOCK_WORKER_THREADS: "1",
    DRYDOCK_MEMORY_LIMIT: String(1.5 * 2 ** 30),
    DRYDOCK_SCRATCH_GIB: "1",
  };
  const deployments = objects.filter(({ kind }) => kind === "Deployment");
  for (const deployment of deployments) {
    const { spec } = (deployment["spec"] as { template: { spec: PodSpec } }).template;
    spec.hostAliases = aliases;
    for (const container of spec.containers) {
      container.image = imageName(name as "api" | "controller");
      container.imagePullPolicy = "Never";
      container.env = [
        ...container.env.filter((variable) => !(variable.name in changes)),
        ...Object.entries(changes).map(([variable, value]) => ({ name: variable, value })),
      ];
    }
  }
  return objects.filter(({ kind }) => kind !== "Service");
}

interface PodSpec {
  hostAliases?: unknown;
  readonly containers: {
    image: string;
    imagePullPolicy?: string;
    env: { readonly name: string; readonly value: string }[];
  }[];
}

interface ServiceSpec {
  readonly clusterIP: string;
  readonly ports: readonly { readonly port: number; readonly targetPort: string }[];
}

/** Stands in for kube-proxy: connections to a Service go to a pod of its own that is ready. */
async function openService({ metadata: { name } }: KubeObject): Promise<void> {
  const { spec } = (await cluster.admin.call("GET", `/api/v1/namespaces/${system}/services/${name}`)) as unknown as {
    spec: ServiceSpec;
  };
  const [{ port } = { port: 0 }] = spec.ports;
  await doors.openAt(spec.clusterIP, port, async () => {
    const slices = await cluster.admin.list(
      `/apis/discovery.k8s.io/v1/namespaces/${system}/endpointslices?labelSelector=kubernetes.io/service-name=${name}`,
    );
    for (const slice of slices as unknown as EndpointSlice[])
      for (const { addresses, conditions } of slice.endpoints ?? [])
        if (conditions.ready === true && addresses[0] !== undefined)
          return { host: addresses[0], port: slice.ports?.[0]?.port ?? 0 };
    throw new Error(`no pod of ${name} is ready`);
  });
}

interface EndpointSlice {
  readonly endpoints?: readonly { readonly addresses: readonly string[]; readonly conditions: { ready?: boolean } }[];
  readonly ports?: readonly { readonly port: number }[];
}

async function serviceAddress(name: string): Promise<string> {
  const found = await cluster.admin.call("GET", `/api/v1/namespaces/${system}/services/${name}`);
  const { clusterIP, ports } = found["spec"] as ServiceSpec;
  return `${clusterIP}:${ports[0]?.port}`;
}

async function apply(objects: readonly KubeObject[]): Promise<void> {
  applied.push(...objects);
  await applyAll(cluster.admin, objects);
}

function pathOf(object: KubeObject): string {
  return `${collectionOf(object)}/${object.metadata.name}`;
}

async function podsOf(name: string): Promise<KubeObject[]> {
  return await cluster.pods(system, `app.kubernetes.io/name=drydock-${name}`);
}

/** Process ids on this computer of the pods of a deployment. */
async function processesOf(name: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    const command = await readFile(`/proc/${entry}/cmdline`, "utf8").catch(() => "");
    const group = await readFile(`/proc/${entry}/cgroup`, "utf8").catch(() => "");
    if (command.includes(`services/${name}/src/main.ts`) && group.includes("kubepods")) found.push(Number(entry));
  }
  return found;
}

async function submit(name: string): Promise<string> {
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    name,
    model: "drydock-tiny-vl",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: 30, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: 5 },
    evaluation: { before: false, maxNewTokens: 4 },
  });
  return id;
}

test("the deployments become ready, and a run goes through them to a model in object storage", async () => {
  await until("the api answers", async () => {
    const answer = await drydock.request("GET", "/readyz").catch(() => null);
    return answer?.status === 200 ? true : null;
  });
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
  const run = await drydock.runIn(await submit("deployed"), ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 30 }, model: "deployed@1" });
  const storage = new S3Storage(store.options({ prefix: "team" }));
  expect((await storage.get("models/deployed/1/adapter_model.safetensors")).length).toBeGreaterThan(1000);
}, 300_000);

test("the controller's pod is killed mid-run and an api pod deleted: the cluster brings both back, the run ends on its first attempt", async () => {
  const id = await submit("disturbed");
  await drydock.runAtStep(id, 5);
  for (const pid of await processesOf("controller")) kill(pid);
  const [pod] = await podsOf("api");
  await cluster.admin.call("DELETE", `/api/v1/namespaces/${system}/pods/${pod?.metadata.name}`);
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 30 } });
  expect(run.attempts).toHaveLength(1);
}, 300_000);
