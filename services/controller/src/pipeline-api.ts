import { PipelineAdvance } from "@drydock/spec";
import type { InternalApi } from "./internal-api.ts";

/** The api's internal routes of pipelines. Every call is idempotent. Errors are those of {@link InternalApi}. */
export class PipelineApi {
  readonly #api: Pick<InternalApi, "call">;

  constructor(api: Pick<InternalApi, "call">) {
    this.#api = api;
  }

  async advance(id: string): Promise<PipelineAdvance> {
    return PipelineAdvance.parse(await this.#api.call("POST", `/pipeline-runs/${id}/advance`));
  }

  async failed(id: string, message: string): Promise<void> {
    await this.#api.call("POST", `/pipeline-runs/${id}/failed`, { message });
  }
}
