import { messageOf, NotFoundError, type Logger, type ObjectStorage } from "@drydock/kit";
import { z } from "zod";
import type { KubeApi } from "./kube-api.ts";
import type { JobObject, PodObject } from "./kube-objects.ts";
import { annotations, labels } from "./names.ts";
import { rankOf } from "./rank-end.ts";

/** Of one rank's log; the end of a longer one is kept. */
const limitBytes = 8 * 2 ** 20;
const copyEveryMs = 10_000;
const LogKeys = z.array(z.string());

interface Options {
  readonly api: KubeApi;
  readonly settings: { readonly namespace: string };
  readonly storage: ObjectStorage;
  readonly logger: Logger;
}

/** Copies the logs of pods to object storage while they run and when they end. A log that is late costs no run. */
export class PodLogs {
  readonly #options: Options;
  readonly #copiedAtMs = new Map<string, number>();
  readonly #pods = new Map<string, readonly PodObject[]>();

  constructor(options: Options) {
    this.#options = options;
  }

  /** Copies the logs of a gang unless that was done just now. */
  async copy(gang: string, job: JobObject | undefined, pods: readonly PodObject[]): Promise<void> {
    this.#pods.set(gang, pods);
    const nowMs = performance.now();
    if (nowMs - (this.#copiedAtMs.get(gang) ?? -copyEveryMs) < copyEveryMs) return;
    this.#copiedAtMs.set(gang, nowMs);
    await Promise.all(pods.map(async (pod) => await this.#copyOne(job, pod)));
  }

  /** The last copy, when the gang has ended. */
  async finish(gang: string, job: JobObject | undefined): Promise<void> {
    const pods = this.#pods.get(gang) ?? [];
    this.#pods.delete(gang);
    this.#copiedAtMs.delete(gang);
    await Promise.all(pods.map(async (pod) => await this.#copyOne(job, pod)));
  }

  async #copyOne(job: JobObject | undefined, pod: PodObject): Promise<void> {
    const key = keysOf(job)[rankOf(pod)];
    if (key === undefined) return;
    const { api, settings, storage, logger } = this.#options;
    const path = `/api/v1/namespaces/${settings.namespace}/pods/${pod.metadata.name}/log`;
    try {
      const text = await api.text(`${path}?container=worker&limitBytes=${limitBytes}`);
      if (text !== "") await storage.put(key, Buffer.from(text));
    } catch (error) {
      if (error instanceof NotFoundError) return;
      logger.debug({ gang: pod.metadata.labels?.[labels.gang], error: messageOf(error) }, "log is not in storage yet");
    }
  }
}

function keysOf(job: JobObject | undefined): readonly string[] {
  const written = job?.metadata.annotations?.[annotations.logKeys];
  const parsed = written === undefined ? null : LogKeys.safeParse(JSON.parse(written));
  return parsed?.success ? parsed.data : [];
}
