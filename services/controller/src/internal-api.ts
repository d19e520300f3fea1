import { InvalidError, NotFoundError, UnavailableError, messageOf, retryUnavailable } from "@drydock/kit";
import {
  ClusterReportAnswer,
  InternalRun,
  Problem,
  type AttemptUpdate,
  type ClusterReport,
  type DatasetVersionUpdate,
  type EvaluationUpdate,
  type ModelRegistration,
  type RunReportBatch,
  type RunTransition,
} from "@drydock/spec";
import type { z } from "zod";

const callTimeoutMs = 20_000;
/** Longer than an api takes to be started again; after that the activity is tried again as a whole. */
const patientBudgetMs = 600_000;

/**
 * The controller's only way to the database: the api's internal routes. Every call is idempotent.
 * @throws UnavailableError when the api or its database is away; InvalidError when it refuses the call
 */
export class InternalApi {
  readonly #url: string;
  readonly #key: string;
  readonly #budgetMs: number;

  /** @param budgetMs  how long a call is tried again while the api or its database is away */
  constructor(url: string, key: string, budgetMs: number = patientBudgetMs) {
    this.#url = url;
    this.#key = key;
    this.#budgetMs = budgetMs;
  }

  /** The same api, for callers who try again themselves: one try a call. */
  hasty(): InternalApi {
    return new InternalApi(this.#url, this.#key, 0);
  }

  async run(runId: string): Promise<InternalRun> {
    return InternalRun.parse(await this.call("GET", `/runs/${runId}`));
  }

  async transition(runId: string, transition: RunTransition): Promise<void> {
    await this.call("POST", `/runs/${runId}/transitions`, transition);
  }

  async putAttempt(runId: string, attempt: z.infer<typeof AttemptUpdate>): Promise<void> {
    await this.call("PUT", `/runs/${runId}/attempts/${attempt.epoch}`, attempt);
  }

  async report(runId: string, batch: RunReportBatch): Promise<void> {
    await this.call("POST", `/runs/${runId}/reports`, batch);
  }

  async registerModel(model: ModelRegistration): Promise<void> {
    await this.call("POST", "/models", model);
  }

  async putEvaluation(id: string, update: EvaluationUpdate): Promise<void> {
    await this.call("PUT", `/evaluations/${id}`, update);
  }

  async putDatasetVersion(name: string, version: number, update: DatasetVersionUpdate): Promise<void> {
    await this.call("PUT", `/datasets/${name}/versions/${version}`, update);
  }

  /** Once, without patience: the next report says it again. */
  async reportCluster(report: ClusterReport): Promise<ClusterReportAnswer> {
    return ClusterReportAnswer.parse(await this.#once("PUT", "/cluster", report));
  }

  /** Any internal route, for the classes that know more of them. @param path  below `/internal/v1` */
  async call(method: string, path: string, body?: unknown): Promise<unknown> {
    const policy = { budgetMs: this.#budgetMs, maximumDelayMs: 5_000 };
    return await retryUnavailable(`${method} ${path}`, policy, async () => await this.#once(method, path, body));
  }

  async #once(method: string, path: string, body: unknown): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(`${this.#url}/internal/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${this.#key}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(callTimeoutMs),
      });
    } catch (error) {
      throw new UnavailableError("api_unavailable", `the api does not answer: ${messageOf(error)}`, { cause: error });
    }
    return await this.#answerOf(response, `${method} ${path}`);
  }

  async #answerOf(response: Response, call: string): Promise<unknown> {
    const text = await response.text().catch((error: unknown) => {
      throw new UnavailableError("api_unavailable", `the api broke off its answer: ${messageOf(error)}`, {
        cause: error,
      });
    });
    if (response.ok) return text === "" ? undefined : (JSON.parse(text) as unknown);
    const problem = problemIn(text);
    const what = `${call} was answered with ${response.status}: ${problem?.detail ?? text.slice(0, 500)}`;
    if (response.status >= 500 || response.status === 429) throw new UnavailableError("api_unavailable", what);
    if (response.status === 404) throw new NotFoundError("api_not_found", what);
    // The sentence for people, and what code can decide by.
    const details = problem === null ? [] : [{ path: call, code: problem.code, message: problem.detail }];
    throw new InvalidError("api_refused", what, { details });
  }
}

/** What a refusal says; null for an answer that is no problem document. */
function problemIn(text: string): Pick<Problem, "code" | "detail"> | null {
  try {
    const parsed = Problem.pick({ code: true, detail: true }).safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
