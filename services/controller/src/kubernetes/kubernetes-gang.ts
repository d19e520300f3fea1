import { gangEnd, isFailure } from "../backend/gang-end.ts";
import type { EndReason, Gang, GangEnd, GangSpec, Placement, RankEnd } from "../backend/cluster-backend.ts";
import { conditionOf, type JobObject, type PodObject } from "./kube-objects.ts";
import { hopelessBecause, rankEndOf, rankOf } from "./rank-end.ts";

/** Kubernetes' own. */
const defaultGraceSeconds = 30;

/** All ranks have ended, and the Job does not say so: it is waited for so long. */
const jobPatienceMs = 10_000;

/** What a gang may ask of the cluster. */
export interface GangControl {
  /** Pods that cannot start as they stand are waited for so long. */
  readonly hopelessAfterMs: number;
  /** A pod that was to end is waited for so long beyond its grace: then its node counts as lost. */
  readonly nodeLossMs: number;
  /** Who took the GPUs of a Job that was suspended, in a sentence. */
  whyEvicted(name: string): string;
  /** Deletes the pods: SIGTERM, and SIGKILL after the grace period (null: that of the pod). */
  deletePods(name: string, graceSeconds: number | null): void;
  /** Deletes the Job with all that belongs to it. */
  deleteJob(name: string): void;
}

/**
 * One gang on the cluster. It is told of every change of its Job and pods and remembers how each rank ended, because
 * Kubernetes deletes the pods of a failed Job.
 */
export class KubernetesGang implements Gang {
  readonly name: string;
  readonly jobName: string;
  readonly ended: Promise<GangEnd>;
  readonly placement: Pick<Placement, "accelerator" | "gpusPerRank" | "queue">;
  readonly #control: GangControl;
  readonly ranks: number;
  readonly #ends = new Map<number, RankEnd>();
  /** In the order in which they were seen. */
  readonly #order: RankEnd[] = [];
  readonly #nodes = new Map<number, string>();
  readonly #listeners = new Set<(why: string) => void>();
  #hasRun = false;
  #isOver = false;
  #hopelessSinceMs: number | null = null;
  /** When each pod that is to end was first seen so; by rank. */
  readonly #leavingSinceMs = new Map<number, number>();
  #allEndedSinceMs: number | null = null;
  #why = "";
  #resolve: (end: GangEnd) => void = () => undefined;

  constructor(
    { name, ranks, placement }: Pick<GangSpec, "name" | "ranks"> & { readonly placement: KubernetesGang["placement"] },
    jobName: string,
    control: GangControl,
  ) {
    this.name = name;
    this.placement = placement;
    this.jobName = jobName;
    this.ranks = ranks;
    this.#control = control;
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** True once a rank's container ran. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  stop(): void {
    this.#control.deletePods(this.jobName, null);
  }

  kill(): void {
    // One second: the node confirms that the container is gone. Zero would only forget the pod.
    this.#control.deletePods(this.jobName, 1);
  }

  onWaiting(tell: (why: string) => void): void {
    this.#listeners.add(tell);
    if (this.#why !== "") tell(this.#why);
  }

  /** Hands a sentence on to those who asked why it waits; the same one only once. */
  tellWhy(why: string): void {
    if (why === this.#why || this.#isOver) return;
    this.#why = why;
    for (const tell of this.#listeners) tell(why);
  }

  /** The pod of a rank changed. */
  seePod(pod: PodObject, nowMs: number): void {
    const rank = rankOf(pod);
    if (pod.spec?.nodeName) this.#nodes.set(rank, pod.spec.nodeName);
    if (pod.status?.phase === "Running") this.#hasRun = true;
    const end = rankEndOf(pod);
    if (end) return this.#note(end);
    if (pod.metadata.deletionTimestamp !== undefined) this.#seeLeaving(pod, rank, nowMs);
    const hopeless = hopelessBecause(pod);
    if (!hopeless) return;
    this.#hopelessSinceMs ??= nowMs;
    if (nowMs - this.#hopelessSinceMs < this.#control.hopelessAfterMs) return;
    this.#endFor(hopeless.reason, hopeless.message, rank);
  }

  /**
   * Only its node can say that a pod has ended. One that is cut off says nothing, and Kubernetes then keeps the pod for ever:
   * the attempt is given up, and its worker, should it live, is refused by its epoch.
   */
  #seeLeaving(pod: PodObject, rank: number, nowMs: number): void {
    const sinceMs = this.#leavingSinceMs.get(rank) ?? nowMs;
    this.#leavingSinceMs.set(rank, sinceMs);
    const graceSeconds = pod.metadata.deletionGracePeriodSeconds ?? defaultGraceSeconds;
    const { nodeLossMs } = this.#control;
    if (nowMs - sinceMs <= graceSeconds * 1000 + nodeLossMs) return;
    const late = `${Math.round(nodeLossMs / 1000)} s later its node has not said that it did`;
    this.#endFor("node-lost", `its pod ${pod.metadata.name} was to end within ${graceSeconds} s, and ${late}`, rank);
  }

  /**
   * Time has passed. A Job whose ranks have all ended is over in an instant, unless the Job controller is behind: after a
   * restart of the API server it sometimes counts the pods that failed and never says that the Job has.
   */
  look(nowMs: number): void {
    if (this.#isOver || this.#ends.size < this.ranks) return;
    this.#allEndedSinceMs ??= nowMs;
    if (nowMs - this.#allEndedSinceMs >= jobPatienceMs)
      this.#conclude(this.#order.some(isFailure) ? "vanished" : "exited", null);
  }

  /** A pod is gone from the cluster; one whose end nobody saw counts as vanished. */
  losePod(pod: PodObject): void {
    const end = rankEndOf(pod);
    if (end) this.#note(end);
  }

  /** The Job changed; null: it is gone. */
  seeJob(job: JobObject | null): void {
    if (this.#isOver) return;
    if (job === null) return this.#conclude("vanished", "its Job was deleted from outside");
    if (conditionOf(job, "Complete")) return this.#conclude("exited", null);
    const failed = conditionOf(job, "Failed");
    if (failed)
      return this.#conclude(failed.reason === "DeadlineExceeded" ? "deadline" : "vanished", failed.message ?? null);
    if (job.spec?.suspend === true && this.#hasRun) this.#seeSuspended(job);
  }

  /**
   * Whoever owns the queue took the GPUs back. The pods got SIGTERM and write their checkpoints: the gang has ended when they
   * have, and starts anew from there.
   */
  #seeSuspended({ status }: JobObject): void {
    const { active = 0, terminating = 0 } = status ?? {};
    if (active + terminating > 0) return;
    const why = this.#control.whyEvicted(this.jobName);
    for (const [index, end] of this.#order.entries())
      if (end.reason === "exited" && end.exitCode !== 0)
        this.#order[index] = { ...end, reason: "preempted", message: why };
    this.#endFor("preempted", why, 0);
  }

  /** Ends the gang for a reason that no pod tells. */
  endFor(reason: EndReason, message: string): void {
    this.#endFor(reason, message, 0);
  }

  #endFor(reason: EndReason, message: string, rank: number): void {
    if (this.#isOver) return;
    const known = this.#ends.get(rank);
    if (!known)
      this.#note({ rank, exitCode: null, signal: null, reason, node: this.#nodes.get(rank) ?? null, message });
    this.#conclude(reason, message);
    this.#control.deleteJob(this.jobName);
  }

  #note(end: RankEnd): void {
    const known = this.#ends.get(end.rank);
    if (known && (known.exitCode !== null || end.exitCode === null)) return;
    this.#ends.set(end.rank, end);
    const place = known ? this.#order.indexOf(known) : this.#order.length;
    this.#order[place] = end;
  }

  #conclude(reason: EndReason, message: string | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const isWell = reason === "exited";
    const hasCause = this.#order.some(isFailure);
    for (let rank = 0; rank < this.ranks; rank++)
      if (!this.#ends.has(rank))
        this.#order.push({
          rank,
          exitCode: isWell ? 0 : null,
          signal: null,
          reason: isWell ? "exited" : hasCause ? "vanished" : reason,
          node: this.#nodes.get(rank) ?? null,
          message,
        });
    this.#resolve(gangEnd(this.#order));
  }
}
