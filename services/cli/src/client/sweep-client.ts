import { Sweep, SweepTrial, pageOf } from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";

export type SweepSteering = "pause" | "resume" | "cancel";

/** Sweeps, one method a route. */
export class SweepClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  create(spec: unknown): Promise<Sweep> {
    return this.#http.postJson("/v1/sweeps", Sweep, spec);
  }

  get(id: string): Promise<Sweep> {
    return this.#http.getJson(pathOf(id), Sweep);
  }

  list(query: Query): Promise<{ items: Sweep[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/sweeps", pageOf(Sweep), query);
  }

  /** Best first. */
  async trials(id: string): Promise<SweepTrial[]> {
    return (await this.#http.getJson(`${pathOf(id)}/trials`, z.object({ items: z.array(SweepTrial) }))).items;
  }

  steer(id: string, action: SweepSteering): Promise<Sweep> {
    return this.#http.postJson(`${pathOf(id)}/${action}`, Sweep, {});
  }

  setParallel(id: string, maxParallel: number): Promise<Sweep> {
    return this.#http.patchJson(pathOf(id), Sweep, { maxParallel });
  }
}

function pathOf(id: string): string {
  return `/v1/sweeps/${encodeURIComponent(id)}`;
}
