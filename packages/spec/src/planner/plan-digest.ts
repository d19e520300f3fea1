import { digestOf } from "@drydock/kit";
import type { Plan } from "../contract/plan.ts";

/**
 * SHA-256, lower-case hex, of the canonical JSON of a plan. The digest itself and the queue wait are left out: the one
 * cannot contain itself, the other changes by the minute without changing what the run will do.
 */
export function planDigest(plan: Omit<Plan, "digest"> & { readonly digest?: string }): string {
  const { digest: _digest, queueWait: _queueWait, ...content } = plan;
  return digestOf(content);
}
