import { SweepFacts, type SweepAction } from "@drydock/spec";
import type { InternalApi } from "./internal-api.ts";

/** The api's internal routes of sweeps. Every call is idempotent. Errors are those of {@link InternalApi}. */
export class SweepApi {
  readonly #api: Pick<InternalApi, "call">;

  constructor(api: Pick<InternalApi, "call">) {
    this.#api = api;
  }

  async facts(sweepId: string): Promise<SweepFacts> {
    return SweepFacts.parse(await this.#api.call("GET", `/sweeps/${sweepId}/facts`));
  }

  async carryOut(sweepId: string, action: SweepAction): Promise<void> {
    await this.#api.call("POST", `/sweeps/${sweepId}/actions`, action);
  }
}
