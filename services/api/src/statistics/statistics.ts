import { InvalidError } from "@drydock/kit";
import Tinypool from "tinypool";
import type { Computed, StatisticsJobs } from "./statistics-thread.ts";

/** A thread that has had nothing to do for so long is ended. */
const idleMs = 60_000;

/**
 * Computes bootstraps and permutation tests on a thread of its own, one question after the other: ten thousand rows take seconds, and
 * requests must be answered meanwhile. The thread starts with the first question.
 */
export class Statistics {
  #pool: Tinypool | null = null;

  /** @throws InvalidError `no_common_rows`, `unknown_slice`, `ambiguous_slice` */
  async compare(question: StatisticsJobs["compare"]["question"]): Promise<StatisticsJobs["compare"]["answer"]> {
    return await this.#ask("compare", question);
  }

  async gate(question: StatisticsJobs["gate"]["question"]): Promise<StatisticsJobs["gate"]["answer"]> {
    return await this.#ask("gate", question);
  }

  async live(question: StatisticsJobs["live"]["question"]): Promise<StatisticsJobs["live"]["answer"]> {
    return await this.#ask("live", question);
  }

  async score(question: StatisticsJobs["score"]["question"]): Promise<StatisticsJobs["score"]["answer"]> {
    return await this.#ask("score", question);
  }

  async close(): Promise<void> {
    await this.#pool?.destroy();
    this.#pool = null;
  }

  async #ask<Name extends keyof StatisticsJobs>(
    name: Name,
    question: StatisticsJobs[Name]["question"],
  ): Promise<StatisticsJobs[Name]["answer"]> {
    this.#pool ??= new Tinypool({
      filename: new URL("./statistics-thread.ts", import.meta.url).href,
      runtime: "worker_threads",
      minThreads: 0,
      maxThreads: 1,
      idleTimeout: idleMs,
    });
    const computed = (await this.#pool.run(question, { name })) as Computed<StatisticsJobs[Name]["answer"]>;
    if ("answer" in computed) return computed.answer;
    const { code, message, details } = computed.refused;
    throw new InvalidError(code, message, { details });
  }
}
