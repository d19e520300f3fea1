import { ConflictError, InvalidError, messageOf, NotFoundError, type Logger, type ObjectStorage } from "@drydock/kit";
import type { ClusterBackend, Gang, GangSpec } from "../backend/cluster-backend.ts";
import { gangManifests, specDigest, type WorkerPodSettings } from "./gang-manifests.ts";
import type { KubeApi } from "./kube-api.ts";
import { conditionOf, type JobObject, type KubeObject, type PodObject } from "./kube-objects.ts";
import { KubernetesGang } from "./kubernetes-gang.ts";
import { ListWatch } from "./list-watch.ts";
import { annotations, jobName, labels, managedBy } from "./names.ts";
import { PodLogs } from "./pod-logs.ts";
import { whyItWaits, type WorkloadObject } from "./why-it-waits.ts";

export interface KubernetesBackendOptions {
  readonly api: KubeApi;
  readonly settings: WorkerPodSettings;
  readonly storage: ObjectStorage;
  readonly logger: Logger;
  /** How often what waits is looked at again, and logs are copied. */
  readonly lookMs?: number;
  /** A pod that cannot start as it stands is given up after so long. */
  readonly hopelessAfterMs?: number;
}

const ours = `${labels.managedBy}=${managedBy}`;
const defaultLookMs = 2000;
/** An image may still be on its way to the registry, a secret to the namespace. */
const defaultHopelessAfterMs = 20_000;

/**
 * Gangs as Indexed Jobs of a Kubernetes cluster. All that the controller knows of them it reads from the cluster, so that
 * one that starts again finds them; what it writes is named by the attempt, so that doing it twice does it once.
 */
export class KubernetesBackend implements ClusterBackend {
  readonly #options: KubernetesBackendOptions;
  readonly #jobs: ListWatch<JobObject>;
  readonly #pods: ListWatch<PodObject>;
  readonly #workloads: ListWatch<WorkloadObject> | null;
  /** By the Job's name. */
  readonly #gangs = new Map<string, KubernetesGang>();
  readonly #seenPods = new Map<string, PodObject>();
  readonly #logs: PodLogs;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: KubernetesBackendOptions) {
    const { api, settings, logger } = options;
    this.#options = options;
    const follow = <T extends KubeObject>(path: string, labelSelector?: string): ListWatch<T> =>
      new ListWatch<T>({ api, path, logger, ...(labelSelector === undefined ? {} : { labelSelector }) });
    this.#jobs = follow<JobObject>(this.#path("batch/v1", "jobs"), ours);
    this.#pods = follow<PodObject>(this.#path("v1", "pods"), ours);
    this.#workloads = settings.usesKueue
      ? follow<WorkloadObject>(this.#path("kueue.x-k8s.io/v1beta2", "workloads"))
      : null;
    this.#logs = new PodLogs(options);
  }

  /** Reads what is there and follows it from now on. @throws the errors of the first lists: rights, address, namespace */
  async connect(): Promise<void> {
    this.#jobs.subscribe((name, job) => this.#jobChanged(name, job));
    this.#pods.subscribe((name, pod) => this.#podChanged(name, pod));
    await this.#pods.start();
    await this.#jobs.start();
    await this.#workloads?.start();
    this.#timer = setInterval(() => void this.#look(), this.#options.lookMs ?? defaultLookMs);
  }

  async close(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await Promise.all([this.#jobs.stop(), this.#pods.stop(), this.#workloads?.stop()]);
  }

  /** The pods that are known now. */
  pods(): PodObject[] {
    return this.#pods.list();
  }

  async start(spec: GangSpec): Promise<Gang> {
    const name = jobName(spec.name);
    const manifests = gangManifests(spec, this.#options.settings);
    const gang = this.#gangs.get(name) ?? this.#track(spec, name);
    try {
      const job = await this.#createOrFind(spec, manifests.job);
      await this.#createSecret(ownedBy(job, manifests.secret));
      return gang;
    } catch (error) {
      this.#gangs.delete(name);
      throw asConfigError(error);
    }
  }

  async find(name: string): Promise<Gang | null> {
    const known = this.#gangs.get(jobName(name));
    if (known) return known;
    // The watch may lag behind what another controller made just now.
    const job = (await this.#options.api.find(
      `${this.#path("batch/v1", "jobs")}/${jobName(name)}`,
    )) as JobObject | null;
    return job === null || isOver(job) ? null : this.#adopt(job);
  }

  async list(): Promise<Gang[]> {
    for (const job of this.#jobs.list()) if (!isOver(job)) this.#adopt(job);
    return [...this.#gangs.values()].filter((gang) => !gang.isOver);
  }

  #adopt(job: JobObject): KubernetesGang {
    const { name } = job.metadata;
    const known = this.#gangs.get(name);
    if (known) return known;
    const { annotations: notes } = job.metadata;
    const gang = this.#track(
      {
        name: notes?.[annotations.gang] ?? name,
        ranks: job.spec?.completions ?? 1,
        placement: {
          accelerator: notes?.[annotations.accelerator] ?? null,
          gpusPerRank: Number(notes?.[annotations.gpusPerRank] ?? 0),
        },
      },
      name,
    );
    const nowMs = performance.now();
    for (const pod of this.#pods.list()) if (pod.metadata.labels?.[labels.job] === name) gang.seePod(pod, nowMs);
    gang.seeJob(job);
    return gang;
  }

  #track(spec: ConstructorParameters<typeof KubernetesGang>[0], job: string): KubernetesGang {
    const { hopelessAfterMs = defaultHopelessAfterMs, settings } = this.#options;
    const gang = new KubernetesGang(spec, job, {
      hopelessAfterMs,
      nodeLossMs: settings.nodeLossSeconds * 1000,
      deletePods: (of, graceSeconds) => this.#inBackground("delete pods", this.#deletePods(of, graceSeconds)),
      deleteJob: (of) => this.#inBackground("delete the job", this.#deleteJob(of)),
    });
    this.#gangs.set(job, gang);
    void gang.ended.then(() => this.#inBackground("copy the last log", this.#logs.finish(job, this.#jobs.get(job))));
    return gang;
  }

  async #createOrFind(spec: GangSpec, job: KubeObject): Promise<KubeObject> {
    const path = this.#path("batch/v1", "jobs");
    try {
      return await this.#options.api.create(path, job);
    } catch (error) {
      if (!(error instanceof ConflictError && error.code === "kube_exists")) throw error;
      const found = await this.#options.api.get(`${path}/${job.metadata.name}`);
      const isOurs = found.metadata.labels?.[labels.managedBy] === managedBy;
      if (isOurs && found.metadata.annotations?.[annotations.specDigest] === specDigest(spec)) return found;
      throw new InvalidError(
        "kube_foreign_job",
        `a Job ${job.metadata.name} is in namespace ${this.#options.settings.namespace} already, and is ${isOurs ? "of an attempt with other resources" : "not Drydock's"}: delete or rename it, then submit the run again`,
        { cause: error },
      );
    }
  }

  async #createSecret(secret: KubeObject): Promise<void> {
    try {
      await this.#options.api.create(this.#path("v1", "secrets"), secret);
    } catch (error) {
      if (!(error instanceof ConflictError && error.code === "kube_exists")) throw error;
    }
  }

  async #deletePods(job: string, graceSeconds: number | null): Promise<void> {
    const found = this.#pods.list().filter(({ metadata }) => metadata.labels?.[labels.job] === job);
    const isWaiting = found.every(({ status }) => status?.phase === "Pending");
    // Pods that never ran have nothing to save, and a Job that waits has none.
    if (isWaiting) {
      await this.#deleteJob(job);
      return;
    }
    const options = graceSeconds === null ? {} : { gracePeriodSeconds: graceSeconds };
    await Promise.all(
      found.map(
        async ({ metadata }) => await this.#options.api.delete(`${this.#path("v1", "pods")}/${metadata.name}`, options),
      ),
    );
  }

  async #deleteJob(job: string): Promise<void> {
    await this.#options.api.delete(`${this.#path("batch/v1", "jobs")}/${job}`, { propagationPolicy: "Background" });
  }

  #jobChanged(name: string, job: JobObject | null): void {
    const gang = this.#gangs.get(name);
    if (!gang) return;
    if (job !== null && isOver(job) && !gang.isOver)
      this.#inBackground("read how an attempt ended", this.#concludeFromPods(gang, job));
    else gang.seeJob(job);
    if (job === null) this.#gangs.delete(name);
  }

  /** The Job's end may be seen before that of its pods: they are asked before it counts. */
  async #concludeFromPods(gang: KubernetesGang, job: JobObject): Promise<void> {
    try {
      const selector = encodeURIComponent(`${labels.job}=${gang.jobName}`);
      const { items } = await this.#options.api.list(this.#path("v1", "pods"), `labelSelector=${selector}`);
      for (const pod of items) gang.seePod(pod as PodObject, performance.now());
    } finally {
      gang.seeJob(job);
    }
  }

  #podChanged(name: string, pod: PodObject | null): void {
    const known = pod ?? this.#seenPods.get(name);
    const gang = this.#gangs.get(known?.metadata.labels?.[labels.job] ?? "");
    if (pod) this.#seenPods.set(name, pod);
    else this.#seenPods.delete(name);
    if (!gang || !known) return;
    if (pod) gang.seePod(pod, performance.now());
    else gang.losePod(known);
  }

  /** Looks at what waits, and copies logs of what runs. */
  async #look(): Promise<void> {
    const nowMs = performance.now();
    for (const [name, gang] of this.#gangs) {
      if (gang.isOver) continue;
      const pods = this.#pods.list().filter(({ metadata }) => metadata.labels?.[labels.job] === name);
      for (const pod of pods) gang.seePod(pod, nowMs);
      try {
        if (gang.hasRun) await this.#logs.copy(name, this.#jobs.get(name), pods);
        else await this.#explain(gang, name, pods);
      } catch (error) {
        this.#options.logger.warn({ gang: gang.name, error: messageOf(error) }, "cannot look at a gang");
      }
    }
  }

  async #explain(gang: KubernetesGang, name: string, pods: readonly PodObject[]): Promise<void> {
    const job = this.#jobs.get(name);
    if (!job) return;
    const workload = this.#workloads
      ?.list()
      .find(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === job.metadata.uid));
    const creationFailure = pods.length === 0 && job.spec?.suspend !== true ? await this.#creationFailure(job) : null;
    const why = whyItWaits({ job, pods, workload: workload ?? null, creationFailure });
    if (why === null) return;
    gang.tellWhy(why.sentence);
    if (why.isHopeless) gang.endFor("bad-pod", why.sentence);
  }

  /** Why the Job controller could make no pod: quota, policy, webhook. Null when it said nothing. */
  async #creationFailure(job: JobObject): Promise<string | null> {
    const selector = encodeURIComponent(`involvedObject.uid=${job.metadata.uid ?? ""},reason=FailedCreate`);
    const { items } = await this.#options.api.list(this.#path("v1", "events"), `fieldSelector=${selector}`);
    const newest = items.at(-1);
    return typeof newest?.["message"] === "string" ? newest["message"] : null;
  }

  #path(version: string, resource: string): string {
    const root = version === "v1" ? "/api/v1" : `/apis/${version}`;
    return `${root}/namespaces/${this.#options.settings.namespace}/${resource}`;
  }

  #inBackground(what: string, work: Promise<void>): void {
    work.catch((error: unknown) => this.#options.logger.error({ error: messageOf(error) }, `cannot ${what}`));
  }
}

function isOver(job: JobObject): boolean {
  return Boolean(conditionOf(job, "Complete") ?? conditionOf(job, "Failed"));
}

/** Makes an object belong to a Job: it goes when the Job goes. */
function ownedBy(job: KubeObject, object: KubeObject): KubeObject {
  const owner = { apiVersion: "batch/v1", kind: "Job", name: job.metadata.name, uid: job.metadata.uid };
  return { ...object, metadata: { ...object.metadata, ownerReferences: [owner] } };
}

/** A missing namespace is the operator's to mend; the sentence says so. */
function asConfigError(error: unknown): unknown {
  if (!(error instanceof NotFoundError)) return error;
  return new InvalidError(
    "kube_namespace_missing",
    `${error.message}: create it with \`kubectl apply -k k8s/runs\`, or set DRYDOCK_NAMESPACE to one that exists`,
    { cause: error },
  );
}
