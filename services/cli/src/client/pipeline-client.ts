import {
  IncomingWebhook,
  LiveMetrics,
  ObservationReceipt,
  Pipeline,
  PipelineDryRun,
  PipelineEvent,
  PipelineRun,
  pageOf,
} from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";
import { followEvents } from "./server-events.ts";

export type PipelineRunDecision = "approve" | "refuse" | "rollback";

/** Pipelines and their runs, one method a route. */
export class PipelineClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  create(spec: unknown): Promise<Pipeline> {
    return this.#http.postJson("/v1/pipelines", Pipeline, spec);
  }

  async list(): Promise<Pipeline[]> {
    return (await this.#http.getJson("/v1/pipelines", z.object({ items: z.array(Pipeline) }))).items;
  }

  get(name: string): Promise<Pipeline> {
    return this.#http.getJson(pathOf(name), Pipeline);
  }

  steer(name: string, action: "pause" | "resume"): Promise<Pipeline> {
    return this.#http.postJson(`${pathOf(name)}/${action}`, Pipeline, {});
  }

  async remove(name: string): Promise<void> {
    await this.#http.send("DELETE", pathOf(name), {});
  }

  webhookSecret(name: string): Promise<z.output<typeof IncomingWebhook>> {
    return this.#http.postJson(`${pathOf(name)}/webhook-secret`, IncomingWebhook, {});
  }

  trigger(name: string): Promise<PipelineRun> {
    return this.#http.postJson(`${pathOf(name)}/trigger`, PipelineRun, {});
  }

  dryRun(name: string): Promise<PipelineDryRun> {
    return this.#http.postJson(`${pathOf(name)}/dry-run`, PipelineDryRun, {});
  }

  runs(name: string, query: Query): Promise<{ items: PipelineRun[]; nextCursor: string | null }> {
    return this.#http.getJson(`${pathOf(name)}/runs`, pageOf(PipelineRun), query);
  }

  run(id: string): Promise<PipelineRun> {
    return this.#http.getJson(runPathOf(id), PipelineRun);
  }

  /** Lines of a run's timeline as they come; ends when the run is over. */
  async *followTimeline(id: string, signal: AbortSignal): AsyncGenerator<PipelineEvent> {
    for await (const event of followEvents(this.#http, `${runPathOf(id)}/timeline`, { signal })) {
      const parsed = PipelineEvent.safeParse(JSON.parse(event.data));
      if (parsed.success) yield parsed.data;
    }
  }

  async timeline(id: string): Promise<PipelineEvent[]> {
    const Timeline = z.object({ items: z.array(PipelineEvent) });
    return (await this.#http.getJson(`${runPathOf(id)}/timeline`, Timeline)).items;
  }

  decide(id: string, decision: PipelineRunDecision, comment: string): Promise<PipelineRun> {
    return this.#http.postJson(`${runPathOf(id)}/${decision}`, PipelineRun, { comment });
  }

  cancel(id: string): Promise<PipelineRun> {
    return this.#http.postJson(`${runPathOf(id)}/cancel`, PipelineRun, {});
  }

  observe(model: string, batch: unknown): Promise<z.infer<typeof ObservationReceipt>> {
    return this.#http.postJson(`/v1/models/${encodeURIComponent(model)}/observations`, ObservationReceipt, batch);
  }

  live(model: string, query: Query): Promise<LiveMetrics> {
    return this.#http.getJson(`/v1/models/${encodeURIComponent(model)}/observations/summary`, LiveMetrics, query);
  }
}

function pathOf(name: string): string {
  return `/v1/pipelines/${encodeURIComponent(name)}`;
}

function runPathOf(id: string): string {
  return `/v1/pipeline-runs/${encodeURIComponent(id)}`;
}
