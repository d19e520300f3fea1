import { randomBytes } from "node:crypto";
import type { Server } from "node:http";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { startJobSet } from "./add-ons/jobset.ts";
import { startKueue } from "./add-ons/kueue.ts";
import { ensureContainerRuntime } from "./build/container-runtime.ts";
import type { ClusterComponent, Component } from "./component.ts";
import { connectControlPlane, startControlPlane, type ControlPlane } from "./control-plane.ts";
import { RemoteComponent, serveComponents } from "./control-socket.ts";
import { cleanUpCluster, postJanitor } from "./janitor.ts";
import type { KubeObject } from "./kube-client.ts";
import { applyAll, readManifests } from "./manifests.ts";
import { cleanUpRealNodes } from "./real-nodes/clean-up.ts";
import { createPodNetwork } from "./real-nodes/pod-network.ts";
import { startRealNode } from "./real-nodes/real-node.ts";
import { importImage, realNodeFolders } from "./real-nodes/real-node-state.ts";
import { createNodes, endPatch, startSimulator, type NodeShape, type PodEnding } from "./simulated-nodes.ts";

export interface ClusterOptions {
  /** Where the cluster lives; a new temporary folder when absent. */
  readonly folder?: string;
  readonly nodes?: readonly NodeShape[];
  readonly address?: string;
  readonly isDurable?: boolean;
  /** Writes of every client to `audit.log` in the folder, one JSON object a line. */
  readonly hasAudit?: boolean;
  /** Between two signs of life of a simulated node; at most 2.25 times as long with jitter. */
  readonly heartbeatMs?: number;
  /** A node that was silent for so long counts as lost; default 8. */
  readonly nodeGraceSeconds?: number;
  /** Nodes with a kubelet, containerd and runc on this computer. Needs root. */
  readonly realNodes?: number;
  readonly kueue?: boolean;
  readonly jobSet?: boolean;
  /** Told how long each step took. */
  readonly tell?: (line: string) => void;
}

/** What another process needs in order to use a cluster. Plain JSON. */
export interface ClusterConnection {
  readonly server: string;
  readonly folder: string;
  readonly adminToken: string;
  readonly components: readonly string[];
  readonly hostAddress: string;
  readonly realNodes: readonly string[];
  readonly hasKueue: boolean;
  /** Why there are no real nodes though they were asked for; null when there are. */
  readonly missing: string | null;
  /** Process that owns the servers. */
  readonly ownerPid: number;
}

/** A small GPU cluster: two racks of H100 nodes and one of L4. */
export const defaultNodes: readonly NodeShape[] = [
  { prefix: "h100", count: 4, product: "NVIDIA-H100-80GB-HBM3", nodesPerRack: 2 },
  { prefix: "l4", count: 2, product: "NVIDIA-L4", gpus: 4, memory: "256Gi" },
];

const manifests = resolve(import.meta.dirname, "..", "..", "k8s");
const connectionFile = "cluster.json";
const runsNamespace = "drydock-runs";

/** A running test cluster: started by this process, or by another one on this computer. */
export class Cluster implements AsyncDisposable {
  readonly plane: ControlPlane;
  readonly connection: ClusterConnection;
  readonly #components: ClusterComponent[];
  readonly #close: (components: readonly ClusterComponent[]) => Promise<void>;

  private constructor(
    plane: ControlPlane,
    connection: ClusterConnection,
    components: ClusterComponent[],
    close: (components: readonly ClusterComponent[]) => Promise<void>,
  ) {
    this.plane = plane;
    this.connection = connection;
    this.#components = components;
    this.#close = close;
  }

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    for (let tries = 1; ; tries++) {
      try {
        return await Cluster.#startOnce(options);
      } catch (error) {
        // A port that was free a moment ago may be taken by now.
        const isServerLost = error instanceof Error && error.message.includes(" ended:\n");
        if (!isServerLost || tries === 3) throw error;
        options.tell?.(`${error.message.split("\n")[0]} starting anew`);
      }
    }
  }

  static async #startOnce(options: ClusterOptions): Promise<Cluster> {
    const ownFolder = options.folder === undefined ? await mkdtemp(join(tmpdir(), "drydock-cluster-")) : null;
    const folder = options.folder ?? ownFolder ?? "";
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const sendJanitorHome = postJanitor(folder);
    const components: Component[] = [];
    let control: Server | null = null;
    const close = async (all: readonly ClusterComponent[]): Promise<void> => {
      control?.close();
      // The API server last but one: what asks it would only complain.
      for (const component of all.toReversed()) await component.stop(1000);
      await cleanUpRealNodes(folder);
      await rm(ownFolder ?? join(folder, connectionFile), { recursive: true, force: true });
      sendJanitorHome();
    };
    try {
      const started = await startServers({ ...options, folder }, components);
      const cluster = new Cluster(started.plane, started.connection, components, close);
      control = await serveComponents(folder, (name) => cluster.component(name));
      await writeFile(join(folder, connectionFile), JSON.stringify(started.connection), { mode: 0o600 });
      return cluster;
    } catch (error) {
      // Also what had not told of itself yet: servers are known by the folder in their arguments.
      await cleanUpCluster(folder);
      sendJanitorHome();
      throw error;
    }
  }

  /** A cluster that another process started. Disposing of it here does not end it. */
  static async connect(connection: ClusterConnection): Promise<Cluster> {
    const components = connection.components.map((name) => new RemoteComponent(connection.folder, name));
    return new Cluster(await connectControlPlane(connection), connection, components, async () => {});
  }

  get admin(): ControlPlane["admin"] {
    return this.plane.admin;
  }

  /** This computer as pods on real nodes reach it: servers that they talk to listen here. */
  get hostAddress(): string {
    return this.connection.hostAddress;
  }

  component(name: string): ClusterComponent {
    const found = this.#components.find((component) => component.name === name);
    if (!found) throw new Error(`no component ${name}: there are ${this.#components.map((c) => c.name).join(", ")}`);
    return found;
  }

  /** Adds a process that ends with the cluster. */
  add(component: ClusterComponent): void {
    this.#components.push(component);
  }

  /**
   * A new namespace set up as k8s/runs says: restricted Pod Security, the controller's rights, network policies; with
   * Kueue also the queues `default` and `research` of k8s/queues.
   */
  async namespace(prefix: string): Promise<string> {
    const name = `${prefix}-${randomBytes(3).toString("hex")}`;
    const objects = await readManifests(join(manifests, "runs"));
    const queues = this.connection.hasKueue ? await readManifests(join(manifests, "queues", "local-queues.yaml")) : [];
    const renamed = JSON.stringify([...objects, ...queues]).replaceAll(`"${runsNamespace}"`, JSON.stringify(name));
    await applyAll(this.admin, JSON.parse(renamed) as KubeObject[]);
    return name;
  }

  /** A token of the controller's service account, as a pod would get it. */
  async controllerToken(): Promise<string> {
    const path = "/api/v1/namespaces/drydock-system/serviceaccounts/drydock-controller/token";
    const answer = await this.admin.call<{ status: { token: string } }>("POST", path, {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: 86_400 },
    });
    return answer.status.token;
  }

  /** A kubeconfig with the rights of the controller and no others. */
  async controllerKubeconfig(): Promise<string> {
    return await this.plane.kubeconfig(
      `drydock-controller-${randomBytes(3).toString("hex")}`,
      await this.controllerToken(),
    );
  }

  async pods(namespace: string, selector = ""): Promise<KubeObject[]> {
    const query = selector === "" ? "" : `?labelSelector=${encodeURIComponent(selector)}`;
    return await this.admin.list(`/api/v1/namespaces/${namespace}/pods${query}`);
  }

  /** Ends a simulated pod in the given way. */
  async endPod(namespace: string, name: string, ending: PodEnding): Promise<void> {
    await this.admin.patch(`/api/v1/namespaces/${namespace}/pods/${name}`, endPatch(ending));
  }

  /** Makes an image known to every real node, from the archive of an OCI layout. Pods name it with `imagePullPolicy: Never`. */
  async importImage(archive: string): Promise<void> {
    for (const node of await realNodeFolders(this.plane.folder)) await importImage(node, archive);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close(this.#components);
  }
}

/** What is known of the cluster in a folder; null when none was started there. */
export async function connectionIn(folder: string): Promise<ClusterConnection | null> {
  try {
    return JSON.parse(await readFile(join(folder, connectionFile), "utf8")) as ClusterConnection;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

interface Started {
  readonly plane: ControlPlane;
  readonly connection: ClusterConnection;
}

/** Starts everything; what runs already is in `components` also when a later part fails. */
async function startServers(
  options: ClusterOptions & { readonly folder: string },
  components: Component[],
): Promise<Started> {
  const { folder, nodes = defaultNodes, tell = () => {} } = options;
  const from = performance.now();
  const timed = (what: string): void => tell(`${what} after ${((performance.now() - from) / 1000).toFixed(1)} s`);
  const plane = await startControlPlane({ ...options, folder });
  components.push(...plane.components);
  timed("control plane ready");
  await applySystem(plane);
  const add = (component: Component): void => void components.push(component);
  // Each is waited for also when another fails: what still starts could not be ended.
  const [real, ...others] = await Promise.allSettled([
    startRealNodes(plane, options.realNodes ?? 0, add).finally(() => timed("real nodes ready")),
    startKueueIfAsked(plane, options, add).finally(() => timed("add-ons ready")),
    startSimulatedNodes(plane, nodes, options, add).finally(() => timed("simulated nodes made")),
  ]);
  if (real.status === "rejected") throw real.reason;
  for (const result of others) if (result.status === "rejected") throw result.reason;
  return {
    plane,
    connection: {
      server: plane.server,
      folder,
      adminToken: plane.adminToken,
      components: components.map(({ name }) => name),
      hasKueue: options.kueue === true,
      ownerPid: process.pid,
      ...real.value,
    },
  };
}

/** Namespace, accounts, rights and priorities of k8s/system; not the deployments, whose images tests do not have. */
async function applySystem(plane: ControlPlane): Promise<void> {
  for (const file of ["namespace.yaml", "rbac.yaml", "priority-classes.yaml", "network-policies.yaml"])
    await applyAll(plane.admin, await readManifests(join(manifests, "system", file)));
}

async function startSimulatedNodes(
  plane: ControlPlane,
  nodes: readonly NodeShape[],
  options: ClusterOptions,
  add: (component: Component) => void,
): Promise<void> {
  const simulator = await startSimulator(plane, options);
  add(simulator);
  await simulator.start();
  for (const shape of nodes) await createNodes(plane, shape);
}

async function startKueueIfAsked(
  plane: ControlPlane,
  { kueue = false, jobSet = false }: ClusterOptions,
  add: (component: Component) => void,
): Promise<void> {
  if (jobSet) add(await startJobSet(plane));
  if (!kueue) return;
  add(await startKueue(plane, { withJobSet: jobSet }));
  const queues = await readManifests(join(manifests, "queues"));
  await applyAll(
    plane.admin,
    queues.filter(({ kind }) => kind !== "LocalQueue"),
  );
}

async function startRealNodes(
  plane: ControlPlane,
  count: number,
  add: (component: Component) => void,
): Promise<Pick<ClusterConnection, "hostAddress" | "realNodes" | "missing">> {
  const none = { hostAddress: "127.0.0.1", realNodes: [] };
  if (count === 0) return { ...none, missing: "no real nodes were asked for" };
  const runtime = await ensureContainerRuntime();
  if ("missing" in runtime) return { ...none, missing: runtime.missing };
  const network = await createPodNetwork();
  const indexes = Array.from({ length: count }, (_, index) => index);
  const nodes = await Promise.all(indexes.map((index) => startRealNode({ plane, network, runtime, index, add })));
  return { hostAddress: network.hostAddress, realNodes: nodes.map(({ name }) => name), missing: null };
}
