import {
  Checkpoint,
  Dataset,
  DatasetPreview,
  DatasetVersion,
  Evaluation,
  Model,
  pageOf,
  Plan,
  Run,
  RunEvent,
  RunSummary,
  SampleResult,
  StepMetric,
  ValidationReport,
  type EvaluationSpec,
  type ImportOptions,
  type RunSpecInput,
} from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";
import { followEvents } from "./server-events.ts";

export type RunAction = "pause" | "resume" | "cancel";

/** An item of a run's live stream. */
export type RunUpdate = { readonly kind: "run"; readonly run: Run } | { readonly kind: "event"; readonly event: RunEvent } | { readonly kind: "metric"; readonly metric: StepMetric };

/** The REST API, one method a route. Every method throws a DrydockError with the server's own sentence. */
export class DrydockClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  get url(): string {
    return this.#http.url;
  }

  createDataset(body: { readonly name: string; readonly description: string }): Promise<Dataset> {
    return this.#http.postJson("/v1/datasets", Dataset, body);
  }

  listDatasets(query: Query): Promise<{ items: Dataset[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/datasets", pageOf(Dataset), query);
  }

  getDataset(name: string): Promise<Dataset> {
    return this.#http.getJson(`/v1/datasets/${segment(name)}`, Dataset);
  }

  listVersions(name: string, query: Query): Promise<{ items: DatasetVersion[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/datasets/${segment(name)}/versions`, pageOf(DatasetVersion), query);
  }

  getVersion(name: string, version: number): Promise<DatasetVersion> {
    return this.#http.getJson(`/v1/datasets/${segment(name)}/versions/${version}`, DatasetVersion);
  }

  getReport(name: string, version: number): Promise<ValidationReport> {
    return this.#http.getJson(`/v1/datasets/${segment(name)}/versions/${version}/report`, ValidationReport);
  }

  preview(name: string, version: number, query: Query): Promise<z.output<typeof DatasetPreview>> {
    return this.#http.getJson(`/v1/datasets/${segment(name)}/versions/${version}/preview`, DatasetPreview, query);
  }

  plan(spec: RunSpecInput): Promise<Plan> {
    return this.#http.postJson("/v1/plans", Plan, spec);
  }

  submitRun(spec: RunSpecInput & { readonly expect?: { readonly planDigest: string } }): Promise<Run> {
    return this.#http.postJson("/v1/runs", Run, spec);
  }

  listRuns(query: Query): Promise<{ items: RunSummary[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/runs", pageOf(RunSummary), query);
  }

  getRun(id: string): Promise<Run> {
    return this.#http.getJson(`/v1/runs/${segment(id)}`, Run);
  }

  actOnRun(id: string, action: RunAction): Promise<Run> {
    return this.#http.postJson(`/v1/runs/${segment(id)}/${action}`, Run, {});
  }

  listEvents(id: string, query: Query): Promise<{ items: RunEvent[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/runs/${segment(id)}/events`, pageOf(RunEvent), query);
  }

  listMetrics(id: string, query: Query): Promise<{ items: StepMetric[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/runs/${segment(id)}/metrics`, pageOf(StepMetric), query);
  }

  listCheckpoints(id: string, query: Query): Promise<{ items: Checkpoint[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/runs/${segment(id)}/checkpoints`, pageOf(Checkpoint), query);
  }

  /** The run's log as text. */
  async getLogs(id: string, query: Query): Promise<string> {
    return await (await this.#http.send("GET", `/v1/runs/${segment(id)}/logs`, { query, accept: "text/plain, application/json" })).text();
  }

  /** Changes of state, attempts, checkpoints and evaluations as they happen; ends when the run is over. */
  async *followEvents(id: string, signal: AbortSignal, onReconnect?: (error: unknown) => void): AsyncGenerator<RunEvent> {
    for await (const event of followEvents(this.#http, `/v1/runs/${segment(id)}/events`, { signal, ...(onReconnect && { onReconnect }) })) {
      const parsed = RunEvent.safeParse(JSON.parse(event.data));
      if (parsed.success) yield parsed.data;
    }
  }

  /** Steps as they are measured; ends when the run is over. */
  async *followMetrics(id: string, signal: AbortSignal): AsyncGenerator<StepMetric> {
    for await (const event of followEvents(this.#http, `/v1/runs/${segment(id)}/metrics`, { signal })) {
      const parsed = StepMetric.safeParse(JSON.parse(event.data));
      if (parsed.success) yield parsed.data;
    }
  }

  createEvaluation(spec: z.input<typeof EvaluationSpec>): Promise<Evaluation> {
    return this.#http.postJson("/v1/evaluations", Evaluation, spec);
  }

  getEvaluation(id: string): Promise<Evaluation> {
    return this.#http.getJson(`/v1/evaluations/${segment(id)}`, Evaluation);
  }

  listEvaluations(query: Query): Promise<{ items: Evaluation[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/evaluations", pageOf(Evaluation), query);
  }

  listResults(id: string, query: Query): Promise<{ items: SampleResult[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/evaluations/${segment(id)}/results`, pageOf(SampleResult), query);
  }

  listModels(query: Query): Promise<{ items: Model[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/models", pageOf(Model), query);
  }

  /** One version of a model, or its newest. */
  getModel(name: string, version: number | null): Promise<Model> {
    return this.#http.getJson(version === null ? `/v1/models/${segment(name)}` : `/v1/models/${segment(name)}/versions/${version}`, Model);
  }

  /** One file of a model, as a stream. */
  downloadModelFile(model: Model, file: string): Promise<Response> {
    const path = file.split("/").map(segment).join("/");
    return this.#http.send("GET", `/v1/models/${segment(model.name)}/versions/${model.version}/files/${path}`, { accept: "*/*" });
  }
}

/** A name or id as one segment of a path. */
function segment(text: string): string {
  return encodeURIComponent(text);
}
