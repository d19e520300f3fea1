import { Evaluation, EvaluationComparison, EvaluationSuite, pageOf, type EvaluationRequest } from "@drydock/spec";
import type { z } from "zod";
import type { HttpClient, Query } from "./http.ts";

export const reportFormats = ["html", "csv", "json"] as const;
export type ReportFormat = (typeof reportFormats)[number];

/** Suites, comparisons and reports of evaluations, one method a route. */
export class EvaluationClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  createSuite(request: z.input<typeof EvaluationRequest>): Promise<EvaluationSuite> {
    return this.#http.postJson("/v1/evaluations", EvaluationSuite, request);
  }

  getSuite(id: string): Promise<EvaluationSuite> {
    return this.#http.getJson(`/v1/evaluation-suites/${encodeURIComponent(id)}`, EvaluationSuite);
  }

  listSuites(query: Query): Promise<{ items: EvaluationSuite[]; nextCursor: string | null }> {
    return this.#http.getJson("/v1/evaluation-suites", pageOf(EvaluationSuite), query);
  }

  /** Of an evaluation, or of a suite. */
  cancel(id: string): Promise<Evaluation | EvaluationSuite> {
    return id.startsWith("suite_")
      ? this.#http.postJson(`/v1/evaluation-suites/${encodeURIComponent(id)}/cancel`, EvaluationSuite, {})
      : this.#http.postJson(`/v1/evaluations/${encodeURIComponent(id)}/cancel`, Evaluation, {});
  }

  compare(query: {
    readonly a: string;
    readonly b: string;
    readonly metric?: string | undefined;
    readonly slice?: string | undefined;
  }): Promise<EvaluationComparison> {
    return this.#http.getJson("/v1/evaluations/compare", EvaluationComparison, query);
  }

  /** The report of an evaluation, or of a suite, as it would be downloaded. `query` is for the HTML of an evaluation. */
  async report(id: string, format: ReportFormat, query: Query): Promise<string> {
    const folder = id.startsWith("suite_") ? "evaluation-suites" : "evaluations";
    const path = `/v1/${folder}/${encodeURIComponent(id)}/report.${format}`;
    return await (await this.#http.send("GET", path, { accept: "*/*", query })).text();
  }
}
