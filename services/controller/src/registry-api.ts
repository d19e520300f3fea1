import {
  CheckedManifest,
  Model,
  PromotionResult,
  type PromotionOrder,
  type RollbackOrder,
  type VersionOrAlias,
} from "@drydock/spec";
import type { InternalApi } from "./internal-api.ts";

/** The api's internal routes of the model registry. Every call is idempotent. Errors are those of {@link InternalApi}. */
export class RegistryApi {
  readonly #api: Pick<InternalApi, "call">;

  constructor(api: Pick<InternalApi, "call">) {
    this.#api = api;
  }

  /** A version by its number or an alias, `production` for instance. @throws NotFoundError when there is none */
  async model(name: string, version: VersionOrAlias): Promise<Model> {
    return Model.parse(await this.#api.call("GET", `/models/${name}/versions/${version}`));
  }

  /** The files that a version must have, and what is wrong with its manifest itself. */
  async manifest(name: string, version: number): Promise<CheckedManifest> {
    return CheckedManifest.parse(await this.#api.call("GET", `/models/${name}/versions/${version}/manifest`));
  }

  async promote(name: string, version: number, order: PromotionOrder): Promise<PromotionResult> {
    return PromotionResult.parse(await this.#api.call("POST", `/models/${name}/versions/${version}/promote`, order));
  }

  async rollBack(name: string, order: RollbackOrder): Promise<PromotionResult> {
    return PromotionResult.parse(await this.#api.call("POST", `/models/${name}/rollback`, order));
  }
}
