import type { StepOutcome } from "./step-outcome.ts";

/**
 * Gates that are being computed. A call of the controller that had no answer in time is made again while the first goes on; it then waits for
 * the same outcome instead of having the statistics thread compute it a second time.
 */
export class SharedGates {
  readonly #underWay = new Map<string, Promise<StepOutcome>>();

  /** The outcome of the gate with this key; computed unless that is under way already. Nothing is kept once it is known. */
  async outcome(key: string, compute: () => Promise<StepOutcome>): Promise<StepOutcome> {
    const underWay = this.#underWay.get(key);
    if (underWay) return await underWay;
    const computed = compute();
    this.#underWay.set(key, computed);
    try {
      return await computed;
    } finally {
      this.#underWay.delete(key);
    }
  }
}
