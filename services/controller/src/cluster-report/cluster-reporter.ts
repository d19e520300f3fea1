import { messageOf, type Logger } from "@drydock/kit";
import type { ClusterReport } from "@drydock/spec";
import type { InternalApi } from "../internal-api.ts";
import type { ClusterFacts } from "./cluster-facts.ts";

export interface ReporterTiming {
  /** Between two looks at the cluster. */
  readonly lookMs: number;
  /** What has not changed is said again after so long: the api believes nothing older than two minutes. */
  readonly repeatMs: number;
}

const defaultTiming: ReporterTiming = { lookMs: 1_000, repeatMs: 3_000 };

/**
 * Tells the api what the cluster has, whenever it changed and every few seconds, and hears which runs wait with which
 * priority. An api that is away is told at the next look.
 */
export class ClusterReporter {
  readonly #facts: ClusterFacts;
  readonly #api: Pick<InternalApi, "reportCluster">;
  readonly #logger: Logger;
  readonly #timing: ReporterTiming;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  #isAway = false;
  #lastText = "";
  #lastMs = -Infinity;

  constructor(
    facts: ClusterFacts,
    api: Pick<InternalApi, "reportCluster">,
    logger: Logger,
    timing: ReporterTiming = defaultTiming,
  ) {
    this.#facts = facts;
    this.#api = api;
    this.#logger = logger;
    this.#timing = timing;
  }

  /** Begins now, and never throws: what goes wrong is tried again. */
  start(): void {
    void this.#look().finally(() => {
      if (!this.#isStopped) this.#timer = setTimeout(() => this.start(), this.#timing.lookMs).unref();
    });
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  async #look(): Promise<void> {
    try {
      const [nodes, queues] = await Promise.all([this.#facts.nodes(), this.#facts.queues()]);
      const report: ClusterReport = {
        backend: this.#facts.backend,
        nodes,
        queues,
        unlistedQueues: this.#facts.unlistedQueues(),
      };
      const text = JSON.stringify(report);
      if (text === this.#lastText && performance.now() - this.#lastMs < this.#timing.repeatMs) return;
      const { waiting } = await this.#api.reportCluster(report);
      this.#lastText = text;
      this.#lastMs = performance.now();
      this.#isAway = false;
      this.#facts.onWaiting(waiting);
    } catch (error) {
      // Once per time away: the reason is the same every second.
      if (!this.#isAway) this.#logger.warn({ error: messageOf(error) }, "the cluster is not reported");
      this.#isAway = true;
    }
  }
}
