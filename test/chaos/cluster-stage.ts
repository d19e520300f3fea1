import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { S3Storage } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { createTinyData } from "../../services/worker/test/tiny-model.ts";
import { ensureWorkerImage, workerImage } from "../cluster/images/service-image.ts";
import { sharedCluster } from "../cluster/shared-cluster.ts";
import type { Cluster } from "../cluster/cluster.ts";
import { Embedded, kill } from "../support/embedded.ts";
import { ApiServerProxy } from "./api-server-proxy.ts";
import { ControllerDoor } from "./controller-door.ts";
import { OnCluster } from "./on-cluster.ts";

/** Finished Jobs stay for so long, with all that belongs to them. */
export const keptSeconds = 40;

/** Ports and keys that `drydock up` chose. */
export interface Settings {
  readonly apiKey: string;
  readonly internalKey: string;
  readonly ports: { readonly api: number; readonly temporal: number; readonly controller: number };
}

/** One whole Drydock whose runs are pods of the shared cluster, with a hand on every server and every wire. */
export class ClusterStage implements AsyncDisposable {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly drydock: Embedded;
  readonly site: OnCluster;
  readonly store: Versitygw;
  /** Between the controller and its API server. */
  readonly proxy: ApiServerProxy;
  /** Between workers and their controller. */
  readonly door: ControllerDoor;
  /** What every process of this installation is told. */
  readonly environment: Readonly<Record<string, string>>;
  readonly scratch: string;
  readonly #storageDoor: Server;

  private constructor(
    parts: Omit<ClusterStage, "importColours" | "killProcess" | "settings" | typeof Symbol.asyncDispose>,
    door: Server,
  ) {
    this.cluster = parts.cluster;
    this.namespace = parts.namespace;
    this.drydock = parts.drydock;
    this.site = parts.site;
    this.store = parts.store;
    this.proxy = parts.proxy;
    this.door = parts.door;
    this.environment = parts.environment;
    this.scratch = parts.scratch;
    this.#storageDoor = door;
  }

  /** @param name  in the names of its namespace and folder */
  static async open(name: string): Promise<ClusterStage> {
    const cluster = await sharedCluster();
    await cluster.importImage(await ensureWorkerImage());
    const namespace = await cluster.namespace(name);
    const scratch = await mkdtemp(join(tmpdir(), `drydock-cluster-${name}-`));
    const store = await Versitygw.start();
    const storageDoor = await openDoor(cluster.hostAddress, store.port);
    const proxy = await ApiServerProxy.start(cluster);
    const door = await ControllerDoor.open(cluster.hostAddress);
    const kubeconfig = await cluster.controllerKubeconfig();
    const environment = {
      ...store.environment(`http://${cluster.hostAddress}:${(storageDoor.address() as AddressInfo).port}`),
      STORAGE_URL: "s3://bucket/team",
      DRYDOCK_BACKEND: "kubernetes",
      KUBECONFIG: await proxy.kubeconfig(kubeconfig, scratch),
      DRYDOCK_NAMESPACE: namespace,
      DRYDOCK_WORKER_IMAGE: workerImage,
      DRYDOCK_WORKER_IMAGE_PULL: "Never",
      DRYDOCK_MEMORY_LIMIT: String(1.5 * 2 ** 30),
      DRYDOCK_WORKER_CPU: "0.4",
      DRYDOCK_SCRATCH_GIB: "1",
      DRYDOCK_WORKER_THREADS: "1",
      DRYDOCK_NODE_LOSS_SECONDS: "2",
      DRYDOCK_STOP_DEADLINE_SECONDS: "8",
      DRYDOCK_KEEP_FINISHED_SECONDS: String(keptSeconds),
      CONTROLLER_HOST: cluster.hostAddress,
      DRYDOCK_CONTROLLER_URL: door.url,
    };
    const drydock = new Embedded(join(scratch, "state"), environment);
    const keys = [store.secretAccessKey, tokenIn(await readFile(kubeconfig, "utf8"))];
    const storage = new S3Storage(store.options({ prefix: "team" }));
    const site = new OnCluster({ drydock, cluster, namespace, storage, keys, controllerUrl: door.url });
    const parts = { cluster, namespace, drydock, site, store, proxy, door, environment, scratch };
    const stage = new ClusterStage(parts, storageDoor);
    await drydock.up();
    door.leadTo(cluster.hostAddress, (await stage.settings()).ports.controller);
    return stage;
  }

  /** The data set that runs of chaos are trained on. */
  async importColours(): Promise<void> {
    await createTinyData(join(this.scratch, "data"), 40);
    const options = { format: "openai-jsonl", task: "vqa", validationShare: 0.2 };
    await this.drydock.importFolder("colours", join(this.scratch, "data"), options);
  }

  async settings(): Promise<Settings> {
    return JSON.parse(await readFile(join(this.drydock.stateDirectory, "settings.json"), "utf8")) as Settings;
  }

  /** kill -9 of `api`, `controller` or `temporal`; `drydock up` starts it again. */
  async killProcess(name: string): Promise<void> {
    kill((await this.drydock.processes())[name] ?? 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drydock.down();
    await this.proxy.close();
    this.door.close();
    this.#storageDoor.close();
    await this.store[Symbol.asyncDispose]();
    await this.cluster.admin.call("DELETE", `/api/v1/namespaces/${this.namespace}`);
    await rm(this.scratch, { recursive: true, force: true });
  }
}

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

function tokenIn(kubeconfig: string): string {
  const { users } = JSON.parse(kubeconfig) as { users: [{ user: { token: string } }] };
  return users[0].user.token;
}
