import { join } from "node:path";
import type { ObjectStorage } from "@drydock/kit";
import type { Cluster } from "../cluster/cluster.ts";
import type { KubeObject } from "../cluster/kube-client.ts";
import type { Embedded } from "../support/embedded.ts";
import { logsIn, secretsIn } from "./one-computer.ts";
import type { LiveWorker, NamedText, Site } from "./site.ts";
import { workerProcesses } from "./worker-processes.ts";

export interface OnClusterOptions {
  readonly drydock: Embedded;
  readonly cluster: Cluster;
  /** Of the workers. */
  readonly namespace: string;
  readonly storage: ObjectStorage;
  /** Where workers say what they do: by this their processes are known. */
  readonly controllerUrl: string;
  /** Keys that were given to this installation: of object storage, of the API server. */
  readonly keys: readonly string[];
}

/** Kinds of objects of an attempt, as paths below a namespace. */
const collections = ["apis/batch/v1/jobs", "api/v1/pods", "api/v1/secrets", "api/v1/services"];
const workloads = "apis/kueue.x-k8s.io/v1beta2/workloads";
const runLabel = "drydock.dev/run";
const epochLabel = "drydock.dev/epoch";

/** A Drydock whose workers are pods: what is true is read from the API server, the nodes' processes, and S3. */
export class OnCluster implements Site {
  readonly drydock: Embedded;
  readonly storage: ObjectStorage;
  readonly #options: OnClusterOptions;
  /** Values of every Secret that was ever seen. */
  readonly #tokens = new Set<string>();
  /** A look that is under way. */
  #look: Promise<LiveWorker[]> | null = null;

  constructor(options: OnClusterOptions) {
    this.#options = options;
    this.drydock = options.drydock;
    this.storage = options.storage;
  }

  /** Pods that wait or run, and processes of workers. While the API server is away, the processes alone. Scenes at the same time look once. */
  async liveWorkers(): Promise<LiveWorker[]> {
    const look = (this.#look ??= this.#lookAtWorkers());
    const found = await look;
    if (this.#look === look) this.#look = null;
    return found;
  }

  async #lookAtWorkers(): Promise<LiveWorker[]> {
    const pods = await this.pods().catch(() => []);
    return [...pods.filter(isAlive).map(workerOfPod), ...(await this.processes())];
  }

  /** Worker processes of this installation, on any node. */
  async processes(): Promise<(LiveWorker & { readonly pid: number })[]> {
    return await workerProcesses(`DRYDOCK_CONTROLLER_URL=${this.#options.controllerUrl}`);
  }

  async pods(runId?: string): Promise<KubeObject[]> {
    const { cluster, namespace } = this.#options;
    return await cluster.pods(namespace, runId === undefined ? runLabel : `${runLabel}=${runId}`);
  }

  /** Finished Jobs stay for their time to live; nothing of them may run, and everything must go with them. */
  async leftovers(runIds: readonly string[]): Promise<string[]> {
    const objects = await this.objects(runIds);
    const jobs = objects.filter(({ kind }) => kind === "Job");
    const finished = new Set(jobs.filter(isFinished).map(({ metadata }) => metadata.uid));
    const left = objects.filter((object) =>
      object.kind === "Job"
        ? !isFinished(object)
        : !isOwnedBy(object, finished) || (object.kind === "Pod" && isAlive(object)),
    );
    const processes = (await this.processes()).filter(({ runId }) => runIds.includes(runId));
    return [
      ...left.map(({ kind, metadata }) => `${kind} ${metadata.name} is left of a run that is over`),
      ...processes.map(({ pid, runId, node }) => `process ${pid} on ${node} works for run ${runId}, which is over`),
    ];
  }

  /** All objects of runs, whether finished or not. */
  async objects(runIds?: readonly string[]): Promise<KubeObject[]> {
    const { cluster, namespace } = this.#options;
    const paths = cluster.connection.hasKueue ? [...collections, workloads] : collections;
    const found: KubeObject[] = [];
    for (const path of paths) {
      const kind = kinds[path.slice(path.lastIndexOf("/") + 1)] ?? path;
      const namespaced = path.replace(/\/(\w+)$/, `/namespaces/${namespace}/$1`);
      for (const object of await cluster.admin.list(`/${namespaced}`)) found.push({ ...object, kind });
    }
    return found.filter(({ kind, metadata }) => {
      if (runIds === undefined) return metadata.labels?.[runLabel] !== undefined || kind === "Workload";
      const owner = (metadata["ownerReferences"] as { name: string }[] | undefined)?.[0]?.name ?? "";
      return runIds.some(
        (id) => metadata.labels?.[runLabel] === id || owner.includes(id.toLowerCase().replace("_", "-")),
      );
    });
  }

  /** Looks at the Secrets that there are now: their values are secrets for ever. */
  async noteSecrets(): Promise<void> {
    const { cluster, namespace } = this.#options;
    const secrets = await cluster.admin.list(`/api/v1/namespaces/${namespace}/secrets`).catch(() => []);
    for (const { data } of secrets as (KubeObject & { data?: Record<string, string> })[])
      for (const value of Object.values(data ?? {})) {
        const text = Buffer.from(value, "base64").toString();
        if (text.length >= 16) this.#tokens.add(text);
      }
  }

  async secrets(): Promise<string[]> {
    await this.noteSecrets();
    const own = await secretsIn([join(this.drydock.stateDirectory, "settings.json")]);
    return [...own, ...this.#options.keys, ...this.#tokens];
  }

  /** Logs of Drydock and of the workers, and the objects of the runs, save the Secrets themselves. */
  async texts(runIds: readonly string[]): Promise<NamedText[]> {
    const texts = await logsIn(join(this.drydock.stateDirectory, "logs"));
    for (const id of runIds)
      for await (const { key } of this.storage.list(`runs/${id}/`))
        if (key.endsWith(".log")) texts.push({ name: key, text: Buffer.from(await this.storage.get(key)).toString() });
    const objects = (await this.objects(runIds)).filter(({ kind }) => kind !== "Secret");
    const { cluster, namespace } = this.#options;
    const events = await cluster.admin.list(`/api/v1/namespaces/${namespace}/events`);
    return [...texts, { name: "objects of the cluster", text: JSON.stringify([...objects, ...events]) }];
  }
}

const kinds: Readonly<Record<string, string>> = {
  jobs: "Job",
  pods: "Pod",
  secrets: "Secret",
  services: "Service",
  workloads: "Workload",
};

function workerOfPod({ metadata, spec }: KubeObject): LiveWorker {
  return {
    pid: null,
    runId: metadata.labels?.[runLabel] ?? "",
    epoch: Number(metadata.labels?.[epochLabel]),
    rank: Number(metadata.labels?.["batch.kubernetes.io/job-completion-index"] ?? 0),
    node: (spec as { nodeName?: string } | undefined)?.nodeName ?? null,
  };
}

function isAlive({ status }: KubeObject): boolean {
  return ["Pending", "Running"].includes((status as { phase?: string } | undefined)?.phase ?? "");
}

function isFinished({ status, metadata }: KubeObject): boolean {
  const { conditions = [] } = (status ?? {}) as { conditions?: { type: string; status: string }[] };
  const isOver = conditions.some(({ type, status: is }) => ["Complete", "Failed"].includes(type) && is === "True");
  return isOver || metadata["deletionTimestamp"] !== undefined;
}

function isOwnedBy({ metadata }: KubeObject, owners: ReadonlySet<string | undefined>): boolean {
  const references = (metadata["ownerReferences"] ?? []) as { uid: string }[];
  return references.some(({ uid }) => owners.has(uid)) || metadata["deletionTimestamp"] !== undefined;
}
