import { openAsBlob } from "node:fs";
import { basename } from "node:path";
import { NotFoundError } from "@drydock/kit";
import {
  AcceleratorCapacity,
  Checkpoint,
  ClusterNode,
  Dataset,
  DatasetPreview,
  DatasetVersion,
  Evaluation,
  Model,
  pageOf,
  Plan,
  Queue,
  Run,
  RunEvent,
  RunSummary,
  SampleResult,
  StepMetric,
  ValidationReport,
  type EvaluationSpec,
  type ImportOptions,
  type RunChange,
  type RunSpecInput,
  type VersionOrAlias,
} from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";
import { followEvents } from "./server-events.ts";

export type RunAction = "pause" | "resume" | "cancel";

/** Files that the server holds until a version is made of them. */
const Upload = z.object({ id: z.string(), dataset: z.string(), files: z.int(), sizeBytes: z.int() });
export type Upload = z.infer<typeof Upload>;

const EvaluationSamples = z.object({
  items: z.array(SampleResult.extend({ imageUrl: z.string().nullable() })),
  total: z.int(),
});
export type EvaluationSamples = z.infer<typeof EvaluationSamples>;

const CatalogueModel = z.looseObject({
  name: z.string(),
  title: z.string(),
  family: z.string(),
  license: z.string(),
  parameters: z.number(),
  contextWindow: z.int(),
  modes: z.array(z.string()),
  modeRefusal: z.string().nullable(),
});
export type CatalogueModel = z.infer<typeof CatalogueModel>;

const CatalogueAccelerator = z.looseObject({
  name: z.string(),
  title: z.string(),
  kind: z.string(),
  memoryBytes: z.number(),
  isHere: z.boolean(),
  maxDevices: z.int().nullable(),
});
export type CatalogueAccelerator = z.infer<typeof CatalogueAccelerator>;

const RunLog = z.object({ attempt: z.int(), lines: z.array(z.string()), sizeBytes: z.int() });
export type RunLog = z.infer<typeof RunLog>;

/** A file to send, and the name (folders included) under which it is kept. */
export interface UploadFile {
  readonly path: string;
  readonly name: string;
}

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

  /** Sends files as one upload; each try reads them anew. */
  async uploadFiles(name: string, files: readonly UploadFile[]): Promise<Upload> {
    const content = async (): Promise<FormData> => {
      const form = new FormData();
      for (const { path, name: fileName } of files) form.append("files", await openAsBlob(path), fileName);
      return form;
    };
    const response = await this.#http.send("POST", `/v1/datasets/${segment(name)}/uploads`, { raw: { content } });
    return Upload.parse(await response.json());
  }

  /** Sends one archive as an upload. */
  async uploadArchive(name: string, path: string): Promise<Upload> {
    const raw = { content: () => openAsBlob(path), type: "application/octet-stream" };
    const response = await this.#http.send("POST", `/v1/datasets/${segment(name)}/uploads`, {
      raw,
      query: { name: basename(path) },
    });
    return Upload.parse(await response.json());
  }

  createVersion(name: string, uploadId: string, options: z.input<typeof ImportOptions>): Promise<DatasetVersion> {
    return this.#http.postJson(`/v1/datasets/${segment(name)}/versions`, DatasetVersion, { uploadId, options });
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

  async listQueues(): Promise<Queue[]> {
    return (await this.#http.getJson("/v1/queues", z.object({ items: z.array(Queue) }))).items;
  }

  listNodes(query: Query): Promise<{ items: ClusterNode[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/nodes", pageOf(ClusterNode), query);
  }

  async listCapacity(): Promise<AcceleratorCapacity[]> {
    return (await this.#http.getJson("/v1/capacity", z.object({ items: z.array(AcceleratorCapacity) }))).items;
  }

  /** Changes the priority of a run that waits. */
  prioritiseRun(id: string, priority: RunChange["priority"]): Promise<Run> {
    return this.#http.patchJson(`/v1/runs/${segment(id)}`, Run, { priority });
  }

  getRun(id: string): Promise<Run> {
    return this.#http.getJson(`/v1/runs/${segment(id)}`, Run);
  }

  actOnRun(id: string, action: RunAction): Promise<Run> {
    return this.#http.postJson(`/v1/runs/${segment(id)}/${action}`, Run, {});
  }

  resizeRun(id: string, gpus: number): Promise<Run> {
    return this.#http.postJson(`/v1/runs/${segment(id)}/resize`, Run, { gpus });
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

  /** The last lines of an attempt's log. */
  getLog(id: string, query: Query): Promise<RunLog> {
    return this.#http.getJson(`/v1/runs/${segment(id)}/logs`, RunLog, query);
  }

  /** Lines of a run's log as they are written; ends when the run is over. */
  async *followLog(id: string, signal: AbortSignal): AsyncGenerator<string> {
    for await (const event of followEvents(this.#http, `/v1/runs/${segment(id)}/logs`, { signal })) {
      const parsed = z.object({ line: z.string() }).safeParse(JSON.parse(event.data));
      if (parsed.success) yield parsed.data.line;
    }
  }

  /** Changes of state, attempts, checkpoints and evaluations as they happen; ends when the run is over. */
  async *followEvents(
    id: string,
    signal: AbortSignal,
    onReconnect?: (error: unknown) => void,
  ): AsyncGenerator<RunEvent> {
    for await (const event of followEvents(this.#http, `/v1/runs/${segment(id)}/events`, {
      signal,
      ...(onReconnect && { onReconnect }),
    })) {
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

  /** Rows of an evaluation: question, right answer, given answer, scores. */
  listSamples(id: string, query: Query): Promise<EvaluationSamples> {
    return this.#http.getJson(`/v1/evaluations/${segment(id)}/samples`, EvaluationSamples, query);
  }

  listRunEvaluations(id: string, query: Query): Promise<{ items: Evaluation[]; nextCursor: string | null }> {
    return this.#http.getJson(`/v1/runs/${segment(id)}/evaluations`, pageOf(Evaluation), query);
  }

  /** A picture or another file that an answer points at by its path. */
  async getBytes(path: string): Promise<Uint8Array> {
    return new Uint8Array(await (await this.#http.send("GET", path, { accept: "*/*" })).arrayBuffer());
  }

  listModels(query: Query): Promise<{ items: Model[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/models", pageOf(Model), query);
  }

  /** One version of a model, by number or alias, or its newest. @throws NotFoundError when there is none */
  async getModel(name: string, version: VersionOrAlias | null): Promise<Model> {
    if (version !== null) return await this.#http.getJson(`/v1/models/${segment(name)}/versions/${version}`, Model);
    const { items } = await this.listModels({ name, limit: 1 });
    if (items[0] === undefined)
      throw new NotFoundError("model_not_found", `there is no model "${name}": list them with drydock model list`);
    return items[0];
  }

  /** One file of a model, as a stream. */
  downloadModelFile(model: Model, file: string): Promise<Response> {
    const path = file.split("/").map(segment).join("/");
    return this.#http.send("GET", `/v1/models/${segment(model.name)}/versions/${model.version}/files/${path}`, {
      accept: "*/*",
    });
  }

  async listCatalogueModels(): Promise<CatalogueModel[]> {
    return (await this.#http.getJson("/v1/catalogue/models", z.object({ items: z.array(CatalogueModel) }))).items;
  }

  async listAccelerators(): Promise<CatalogueAccelerator[]> {
    return (await this.#http.getJson("/v1/catalogue/accelerators", z.object({ items: z.array(CatalogueAccelerator) })))
      .items;
  }
}

/** A name or id as one segment of a path. */
function segment(text: string): string {
  return encodeURIComponent(text);
}
