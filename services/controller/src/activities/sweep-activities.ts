import { setTimeout as delay } from "node:timers/promises";
import { decideSweep } from "@drydock/spec";
import type { SweepActivities } from "@drydock/workflows";
import type { SweepApi } from "../sweep-api.ts";
import { failForGood, whileWatching } from "./activity-signals.ts";

/** How soon a trial that reached a rung or ended is noticed. */
const lookMs = 500;

export function createSweepActivities(api: SweepApi): SweepActivities {
  return {
    /** Safe to retry: what was decided is read back, and doing it again changes nothing. */
    runSweep: async ({ sweepId }) =>
      await failForGood(
        async () =>
          await whileWatching(
            async ({ stop, abandon }) => await carryOn(api, sweepId, AbortSignal.any([stop, abandon])),
          ),
      ),

    /** Safe to retry: a sweep that is over stays as it is. */
    failSweep: async ({ sweepId, message }) => await api.carryOut(sweepId, { kind: "end", state: "failed", message }),
  };
}

/** Looks, decides and acts until the sweep is over. @throws the reason of the signal */
async function carryOn(api: SweepApi, sweepId: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const facts = await api.facts(sweepId);
    if (facts.state === "succeeded" || facts.state === "failed" || facts.state === "cancelled") return;
    const actions = decideSweep(facts);
    for (const action of actions) {
      signal.throwIfAborted();
      await api.carryOut(sweepId, action);
    }
    if (actions.length === 0) await delay(lookMs, undefined, { signal });
  }
}
