import { ConflictError, messageOf, NotFoundError, type Logger } from "@drydock/kit";
import { z } from "zod";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-objects.ts";

export interface LeaderElectionOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Name of the Lease. */
  readonly name: string;
  /** Who we are: unique among all who want to lead. */
  readonly identity: string;
  readonly logger: Logger;
  /** A leader that did not renew for so long is no leader any more. */
  readonly durationMs?: number;
  /** Called once when we cannot be sure any longer to lead. */
  readonly onLost: () => void;
}

const Lease = z.looseObject({
  spec: z
    .looseObject({
      holderIdentity: z.string().nullish(),
      renewTime: z.string().nullish(),
      leaseTransitions: z.number().nullish(),
    })
    .default({}),
});

/**
 * Leads while a Lease says so. Time is measured by our own monotonic clock from when we saw the Lease change, so that a
 * jump of anyone's wall clock changes nothing; we stop acting at two thirds of the duration, others wait for all of it.
 */
export class LeaderElection {
  readonly #options: LeaderElectionOptions;
  readonly #durationMs: number;
  readonly #stopped = new AbortController();
  #renewing: Promise<void> = Promise.resolve();
  #isLeading = false;

  constructor(options: LeaderElectionOptions) {
    this.#options = options;
    this.#durationMs = options.durationMs ?? 15_000;
  }

  get isLeading(): boolean {
    return this.#isLeading;
  }

  /** Waits until we lead, then renews in the background. @throws the reason of `signal` */
  async lead(signal: AbortSignal): Promise<void> {
    let seenVersion = "";
    let seenAtMs = performance.now();
    for (;;) {
      signal.throwIfAborted();
      const askedAtMs = performance.now();
      const lease = await this.#read();
      if (lease === null || this.#isFree(lease, seenVersion, seenAtMs)) {
        if (await this.#take(lease)) return this.#keep(askedAtMs);
      } else if (lease.metadata.resourceVersion !== seenVersion) {
        seenVersion = lease.metadata.resourceVersion ?? "";
        seenAtMs = performance.now();
        this.#options.logger.info({ leader: holderOf(lease) }, "another controller leads; waiting");
      }
      await pause(this.#durationMs / 5, signal);
    }
  }

  /** Gives the lead back, so that the next one need not wait. */
  async release(): Promise<void> {
    this.#stopped.abort();
    await this.#renewing;
    if (!this.#isLeading) return;
    this.#isLeading = false;
    try {
      const lease = await this.#read();
      if (lease && holderOf(lease) === this.#options.identity) await this.#write(lease, "");
    } catch (error) {
      this.#options.logger.debug({ error: messageOf(error) }, "the lead was not given back");
    }
  }

  /** Free: held by nobody, by us, or by one whose Lease we watched for the whole duration without a change. */
  #isFree(lease: KubeObject, seenVersion: string, seenAtMs: number): boolean {
    const holder = holderOf(lease);
    if (holder === "" || holder === this.#options.identity) return true;
    return lease.metadata.resourceVersion === seenVersion && performance.now() - seenAtMs > this.#durationMs;
  }

  async #take(lease: KubeObject | null): Promise<boolean> {
    try {
      await this.#write(lease, this.#options.identity);
      return true;
    } catch (error) {
      if (error instanceof ConflictError) return false;
      throw error;
    }
  }

  #keep(takenAtMs: number): void {
    this.#isLeading = true;
    this.#options.logger.info({ identity: this.#options.identity }, "leading");
    this.#renewing = this.#renew(takenAtMs).catch((error: unknown) =>
      this.#lose(`the Lease cannot be renewed: ${messageOf(error)}`),
    );
  }

  async #renew(takenAtMs: number): Promise<void> {
    const { signal } = this.#stopped;
    let renewedAtMs = takenAtMs;
    while (!signal.aborted) {
      await pause(this.#durationMs / 5, signal).catch(() => undefined);
      if (signal.aborted) return;
      const askedAtMs = performance.now();
      if (askedAtMs - renewedAtMs > (this.#durationMs * 2) / 3) return this.#lose("the Lease was not renewed in time");
      const answer = await this.#renewOnce();
      if (answer === "renewed") renewedAtMs = askedAtMs;
      if (answer === "taken") return this.#lose("another controller has taken the lead");
    }
  }

  async #renewOnce(): Promise<"renewed" | "taken" | "unanswered"> {
    try {
      const lease = await this.#read();
      if (lease && holderOf(lease) !== this.#options.identity) return "taken";
      await this.#write(lease, this.#options.identity);
      return "renewed";
    } catch (error) {
      this.#options.logger.warn({ error: messageOf(error) }, "the Lease is not renewed yet");
      return "unanswered";
    }
  }

  #lose(why: string): void {
    if (!this.#isLeading) return;
    this.#isLeading = false;
    this.#options.logger.error({ why }, "not leading any more");
    this.#options.onLost();
  }

  async #read(): Promise<KubeObject | null> {
    return await this.#options.api.find(`${this.#path()}/${this.#options.name}`);
  }

  /** Compare and swap: the version that was read guards the write. */
  async #write(lease: KubeObject | null, holder: string): Promise<void> {
    const { api, name, namespace } = this.#options;
    const before = lease === null ? {} : Lease.parse(lease).spec;
    const spec = {
      ...before,
      holderIdentity: holder,
      leaseDurationSeconds: Math.ceil(this.#durationMs / 1000),
      renewTime: microTime(),
      leaseTransitions: (before.leaseTransitions ?? 0) + (before.holderIdentity === holder ? 0 : 1),
    };
    const metadata = lease?.metadata ?? { name, namespace };
    const object = { apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata, spec };
    if (lease === null) await api.create(this.#path(), object);
    else
      await api.replace(`${this.#path()}/${name}`, object).catch((error: unknown) => {
        if (error instanceof NotFoundError) throw new ConflictError("kube_gone", error.message, { cause: error });
        throw error;
      });
  }

  #path(): string {
    return `/apis/coordination.k8s.io/v1/namespaces/${this.#options.namespace}/leases`;
  }
}

function holderOf(lease: KubeObject): string {
  return Lease.parse(lease).spec.holderIdentity ?? "";
}

/** RFC 3339 with microseconds, as the API wants it. */
function microTime(): string {
  return new Date().toISOString().replace("Z", "000Z");
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, delayMs);
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
