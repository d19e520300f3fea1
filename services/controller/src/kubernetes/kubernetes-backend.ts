import { ConflictError, InvalidError, messageOf, NotFoundError, type Logger, type ObjectStorage } from "@drydock/kit";
import { z } from "zod";
import type { ClusterBackend, Gang, GangSpec, Placement } from "../backend/cluster-backend.ts";
import { gangManifests, gangSecret, kueuePriority, specDigest, type WorkerPodSettings } from "./gang-manifests.ts";
import type { KubeApi } from "./kube-api.ts";
import { conditionOf, type JobObject, type KubeObject, type PodObject } from "./kube-objects.ts";
import { KubernetesGang } from "./kubernetes-gang.ts";
import { whyEvicted, type WorkloadObject } from "./kueue-workload.ts";
import { ListWatch } from "./list-watch.ts";
import { annotations, jobName, labels, managedBy } from "./names.ts";
import { PodLogs } from "./pod-logs.ts";
import { PodsByJob } from "./pods-by-job.ts";
import { whyItWaits } from "./why-it-waits.ts";

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
  readonly #podsByJob = new PodsByJob();
  /** Gangs that had no pod when they were last looked at. */
  #podless = new Set<string>();
  #isAsking = false;
  /** Names of gangs whose Job is being made. */
  readonly #starting = new Set<string>();
  /** Gangs whose Job was not known when they were last looked at. */
  #jobless = new Set<string>();
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

  /** The Jobs that are known now. */
  jobs(): JobObject[] {
    return this.#jobs.list();
  }

  /** Kueue's Workloads that are known now; none without Kueue. */
  workloads(): WorkloadObject[] {
    return this.#workloads?.list() ?? [];
  }

  /**
   * Gives the Jobs of a run that wait in Kueue another priority: Kueue hands their label on to the Workload. The pods keep
   * the PriorityClass that they were made with, which a Job cannot change.
   */
  async prioritise(runId: string, priority: Placement["priority"]): Promise<void> {
    if (!this.#options.settings.usesKueue) return;
    const wanted = kueuePriority(priority);
    const waiting = this.#jobs
      .list()
      .filter(
        ({ metadata, spec }) =>
          metadata.labels?.[labels.run] === runId &&
          spec?.suspend === true &&
          metadata.labels[labels.kueuePriority] !== wanted,
      );
    for (const { metadata } of waiting)
      await this.#options.api.apply(`${this.#path("batch/v1", "jobs")}/${metadata.name}`, {
        apiVersion: "batch/v1",
        kind: "Job",
        metadata: { name: metadata.name, labels: { [labels.kueuePriority]: wanted } },
      });
  }

  async start(spec: GangSpec): Promise<Gang> {
    const name = jobName(spec.name);
    const manifests = gangManifests(spec, this.#options.settings);
    const known = this.#gangs.get(name);
    const gang = known ?? this.#track(spec, name);
    this.#starting.add(name);
    try {
      const job = await this.#createOrFind(spec, manifests.job);
      await this.#createSecret(ownedBy(job, manifests.secret));
      // One that was there already, and may even be over, was told of before anybody here asked for it.
      if (!known) this.#catchUp(gang, job);
      return gang;
    } catch (error) {
      // One that runs goes on, whatever else was asked for under its name.
      if (!known) this.#gangs.delete(name);
      throw asConfigError(error);
    } finally {
      this.#starting.delete(name);
    }
  }

  async find(name: string, secrets?: GangSpec["secrets"]): Promise<Gang | null> {
    const known = this.#gangs.get(jobName(name));
    if (known && (known.hasRun || !secrets)) return known;
    // The watch may lag behind what another controller made just now.
    const job = (await this.#options.api.find(
      `${this.#path("batch/v1", "jobs")}/${jobName(name)}`,
    )) as JobObject | null;
    if (job === null || isOver(job)) return known ?? null;
    if (secrets) await this.#createSecret(ownedBy(job, gangSecret({ name, secrets }, this.#options.settings)));
    return this.#adopt(job);
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
          queue: notes?.[annotations.queue] ?? "default",
        },
      },
      name,
    );
    this.#catchUp(gang, job);
    return gang;
  }

  /** Tells a gang what is known of it before its first change is. */
  #catchUp(gang: KubernetesGang, job: JobObject): void {
    const nowMs = performance.now();
    for (const pod of this.#podsByJob.of(gang.jobName)) gang.seePod(pod, nowMs);
    this.#jobChanged(gang.jobName, job);
  }

  #track(spec: ConstructorParameters<typeof KubernetesGang>[0], job: string): KubernetesGang {
    const { hopelessAfterMs = defaultHopelessAfterMs, settings } = this.#options;
    const gang = new KubernetesGang(spec, job, {
      hopelessAfterMs,
      nodeLossMs: settings.nodeLossSeconds * 1000,
      whyEvicted: (of) => this.#whyEvicted(of),
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
    // Pods that never ran have nothing to save, and a Job that waits has none; the watch may be behind, so they are asked for.
    const known = this.#podsByJob.of(job);
    const found = isWaiting(known) ? await this.#podsNow(job) : known;
    if (isWaiting(found)) {
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
      for (const pod of await this.#podsNow(gang.jobName)) gang.seePod(pod, performance.now());
    } finally {
      gang.seeJob(job);
    }
  }

  async #podsNow(job: string): Promise<PodObject[]> {
    const selector = encodeURIComponent(`${labels.job}=${job}`);
    const { items } = await this.#options.api.list(this.#path("v1", "pods"), `labelSelector=${selector}`);
    return items as PodObject[];
  }

  #podChanged(name: string, pod: PodObject | null): void {
    if (pod) this.#podsByJob.put(pod);
    const known = pod ?? this.#podsByJob.remove(name);
    const gang = this.#gangs.get(known?.metadata.labels?.[labels.job] ?? "");
    if (!gang || !known) return;
    if (pod) gang.seePod(pod, performance.now());
    else gang.losePod(known);
  }

  /** Looks at pods that time makes hopeless, at what waits, and copies logs of what runs. */
  async #look(): Promise<void> {
    const gangs = [...this.#gangs].filter(([, gang]) => !gang.isOver);
    const nowMs = performance.now();
    for (const [name, gang] of gangs) {
      for (const pod of this.#podsByJob.of(name)) gang.seePod(pod, nowMs);
      gang.look(nowMs);
    }
    // Asking the cluster may take long, with thousands of gangs or when it does not answer: it is asked once at a time.
    if (this.#isAsking) return;
    this.#isAsking = true;
    try {
      await this.#findLostJobs(gangs);
      await this.#explain(gangs.filter(([, gang]) => !gang.isOver && !gang.hasRun));
      for (const [name, gang] of gangs)
        if (!gang.isOver && gang.hasRun) await this.#logs.copy(name, this.#jobs.get(name), this.#podsByJob.of(name));
    } catch (error) {
      this.#options.logger.warn({ error: messageOf(error) }, "cannot look at gangs");
    } finally {
      this.#isAsking = false;
    }
  }

  /** A Job that was made and deleted while the watch was away is never told of: it is asked for by name. */
  async #findLostJobs(gangs: readonly (readonly [string, KubernetesGang])[]): Promise<void> {
    const isJobless = (name: string): boolean => !this.#jobs.get(name) && !this.#starting.has(name);
    const jobless = gangs.map(([name]) => name).filter(isJobless);
    const overdue = jobless.filter((name) => this.#jobless.has(name));
    this.#jobless = new Set(jobless);
    for (const name of overdue) {
      const found = await this.#options.api.find(`${this.#path("batch/v1", "jobs")}/${name}`);
      if (found === null && isJobless(name)) this.#jobChanged(name, null);
    }
  }

  async #explain(gangs: readonly (readonly [string, KubernetesGang])[]): Promise<void> {
    const { workloads, creationFailures } = await this.#reasonsToWait(gangs);
    for (const [name, gang] of gangs) {
      const job = this.#jobs.get(name);
      if (!job) continue;
      const { uid = "" } = job.metadata;
      const pods = this.#podsByJob.of(name);
      const creationFailure = pods.length === 0 ? (creationFailures.get(uid) ?? null) : null;
      const why = whyItWaits({ job, pods, workload: workloads.get(uid) ?? null, creationFailure });
      if (why === null) continue;
      gang.tellWhy(why.sentence);
      if (why.isHopeless) gang.endFor("bad-pod", why.sentence);
    }
  }

  /** Who took a gang's GPUs, as Kueue tells it. */
  #whyEvicted(job: string): string {
    const uid = this.#jobs.get(job)?.metadata.uid;
    const workload = this.#workloads
      ?.list()
      .find(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === uid));
    return whyEvicted(workload ?? null, (jobUid) => {
      const other = this.#jobs.list().find(({ metadata }) => metadata.uid === jobUid);
      if (!other) return null;
      const { [labels.run]: run, [labels.kueuePriority]: priority = "" } = other.metadata.labels ?? {};
      return `run ${run} (priority ${priority.replace(/^drydock-/, "")})`;
    });
  }

  async #reasonsToWait(gangs: readonly (readonly [string, KubernetesGang])[]): Promise<ReasonsToWait> {
    const workloads = new Map<string, WorkloadObject>();
    for (const workload of this.#workloads?.list() ?? [])
      for (const { uid } of workload.metadata.ownerReferences ?? []) workloads.set(uid, workload);
    const podless = gangs.filter(([name]) => {
      const job = this.#jobs.get(name);
      return job !== undefined && job.spec?.suspend !== true && this.#podsByJob.of(name).length === 0;
    });
    // A Job that was made just now has no pods yet, and events are costly to search: only who still has none is asked for.
    const isOverdue = podless.some(([name]) => this.#podless.has(name));
    this.#podless = new Set(podless.map(([name]) => name));
    return { workloads, creationFailures: isOverdue ? await this.#creationFailures() : new Map() };
  }

  /** Why the Job controller could make no pods (quota, policy, webhook), by the Job's uid; the newest words of each. */
  async #creationFailures(): Promise<Map<string, string>> {
    const selector = encodeURIComponent("involvedObject.kind=Job,reason=FailedCreate");
    const { items } = await this.#options.api.list(this.#path("v1", "events"), `fieldSelector=${selector}`);
    return new Map(
      CreationFailure.array()
        .parse(items)
        .map((event) => [event.involvedObject.uid, event.message]),
    );
  }

  #path(version: string, resource: string): string {
    const root = version === "v1" ? "/api/v1" : `/apis/${version}`;
    return `${root}/namespaces/${this.#options.settings.namespace}/${resource}`;
  }

  #inBackground(what: string, work: Promise<void>): void {
    work.catch((error: unknown) => this.#options.logger.error({ error: messageOf(error) }, `cannot ${what}`));
  }
}

/** What a look at the cluster says of gangs that wait, by the uid of their Jobs. */
interface ReasonsToWait {
  readonly workloads: ReadonlyMap<string, WorkloadObject>;
  readonly creationFailures: ReadonlyMap<string, string>;
}

const CreationFailure = z.object({ involvedObject: z.object({ uid: z.string() }), message: z.string() });

function isOver(job: JobObject): boolean {
  return Boolean(conditionOf(job, "Complete") ?? conditionOf(job, "Failed"));
}

function isWaiting(pods: readonly PodObject[]): boolean {
  return pods.every(({ status }) => status?.phase === "Pending");
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
