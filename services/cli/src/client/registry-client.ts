import {
  AliasTarget,
  Model,
  ModelComparison,
  ModelEvent,
  ModelVerification,
  pageOf,
  PromotionResult,
  RetentionOutcome,
  SignedManifest,
  SigningKey,
  StoredRetentionRule,
  type ModelStage,
  type RetentionRule,
  type VersionOrAlias,
} from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";

const Aliases = z.object({ items: z.array(AliasTarget) });

/** The REST API's model registry, one method a route. Every method throws a DrydockError with the server's own sentence. */
export class RegistryClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  changeStage(name: string, version: number, to: ModelStage, message: string): Promise<Model> {
    return this.#http.postJson(`${pathOf(name, version)}/stage`, Model, { to, message });
  }

  changeNotes(name: string, version: number, notes: string): Promise<Model> {
    return this.#http.patchJson(pathOf(name, version), Model, { notes });
  }

  async listAliases(name: string): Promise<AliasTarget[]> {
    return (await this.#http.getJson(`${pathOf(name)}/aliases`, Aliases)).items;
  }

  setAlias(name: string, alias: string, version: number): Promise<Model> {
    return this.#http.putJson(`${pathOf(name)}/aliases/${encodeURIComponent(alias)}`, Model, { version });
  }

  removeAlias(name: string, alias: string): Promise<Model> {
    return this.#http.deleteJson(`${pathOf(name)}/aliases/${encodeURIComponent(alias)}`, Model);
  }

  listHistory(name: string, query: Query): Promise<{ items: ModelEvent[]; nextCursor: string | null }> {
    return this.#http.getJson(`${pathOf(name)}/history`, pageOf(ModelEvent), query);
  }

  compare(name: string, versions: readonly string[]): Promise<ModelComparison> {
    return this.#http.getJson(`${pathOf(name)}/compare`, ModelComparison, { versions: versions.join(",") });
  }

  rollBack(name: string, message: string): Promise<PromotionResult> {
    return this.#http.postJson(`${pathOf(name)}/rollback`, PromotionResult, { message });
  }

  /** Takes as long as reading every byte of the model. */
  verify(name: string, version: VersionOrAlias): Promise<ModelVerification> {
    return this.#http.postJson(`${pathOf(name, version)}/verification`, ModelVerification, {});
  }

  getManifest(name: string, version: VersionOrAlias): Promise<SignedManifest> {
    return this.#http.getJson(`${pathOf(name, version)}/manifest`, SignedManifest);
  }

  getSigningKey(): Promise<SigningKey> {
    return this.#http.getJson("/v1/signing-key", SigningKey);
  }

  sign(name: string, version: number): Promise<Model> {
    return this.#http.postJson(`${pathOf(name, version)}/manifest`, Model, {});
  }

  getRetention(name: string): Promise<z.infer<typeof StoredRetentionRule>> {
    return this.#http.getJson(`${pathOf(name)}/retention`, StoredRetentionRule);
  }

  setRetention(name: string, rule: z.input<typeof RetentionRule>): Promise<z.infer<typeof StoredRetentionRule>> {
    return this.#http.putJson(`${pathOf(name)}/retention`, StoredRetentionRule, rule);
  }

  previewRetention(name: string): Promise<RetentionOutcome> {
    return this.#http.postJson(`${pathOf(name)}/retention/preview`, RetentionOutcome, undefined);
  }

  applyRetention(name: string): Promise<RetentionOutcome> {
    return this.#http.postJson(`${pathOf(name)}/retention/apply`, RetentionOutcome, {});
  }
}

function pathOf(name: string, version?: VersionOrAlias): string {
  const model = `/v1/models/${encodeURIComponent(name)}`;
  return version === undefined ? model : `${model}/versions/${encodeURIComponent(version)}`;
}
