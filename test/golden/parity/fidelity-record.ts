import { appendFileSync } from "node:fs";

/** What one check of one model saw. */
export interface Difference {
  readonly family: string;
  readonly shape: string;
  readonly check: string;
  /** The worst one. */
  readonly difference: number;
}

/** Where checks write what they saw, a JSON line each; absent = nowhere. Set by `make fidelity-table`. */
export const recordVariable = "DRYDOCK_FIDELITY_RECORD";

export function recordDifference(difference: Difference): void {
  const path = process.env[recordVariable];
  if (path !== undefined) appendFileSync(path, `${JSON.stringify(difference)}\n`);
}
