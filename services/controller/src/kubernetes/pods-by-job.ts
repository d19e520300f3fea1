import type { PodObject } from "./kube-objects.ts";
import { labels } from "./names.ts";

/** The pods that are known now, by the Job that they belong to: thousands of gangs must not each look through all pods. */
export class PodsByJob {
  readonly #byJob = new Map<string, Map<string, PodObject>>();
  readonly #jobOf = new Map<string, string>();

  put(pod: PodObject): void {
    const { name } = pod.metadata;
    const job = pod.metadata.labels?.[labels.job] ?? "";
    this.#jobOf.set(name, job);
    const pods = this.#byJob.get(job);
    if (pods) pods.set(name, pod);
    else this.#byJob.set(job, new Map([[name, pod]]));
  }

  /** Forgets a pod that is gone; answers how it was seen last. */
  remove(name: string): PodObject | null {
    const job = this.#jobOf.get(name) ?? "";
    const pods = this.#byJob.get(job);
    const pod = pods?.get(name) ?? null;
    this.#jobOf.delete(name);
    pods?.delete(name);
    if (pods?.size === 0) this.#byJob.delete(job);
    return pod;
  }

  of(job: string): PodObject[] {
    return [...(this.#byJob.get(job)?.values() ?? [])];
  }
}
