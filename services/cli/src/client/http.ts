import { randomUUID } from "node:crypto";
import { UnavailableError, messageOf } from "@drydock/kit";
import type { z } from "zod";
import type { Connection } from "./connection.ts";
import { problemError } from "./problem.ts";

export type Query = Readonly<Record<string, string | number | undefined>>;

export interface SendOptions {
  readonly query?: Query;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is. Made anew for each try, since a stream can be read once only; a form names its own type. */
  readonly raw?: { readonly content: () => Promise<Blob | FormData>; readonly type?: string };
  readonly signal?: AbortSignal;
  readonly accept?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Milliseconds between tries while the server is restarting; a POST is safe to repeat, since it carries its key. */
const retryDelaysMs: readonly number[] = [250, 500, 1000, 2000, 4000];

/** Calls of the REST API: the key, JSON in and out, checked answers, problems as errors, a few retries. */
export class HttpClient {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get url(): string {
    return this.#connection.url;
  }

  async getJson<Answer extends z.ZodType>(path: string, answer: Answer, query: Query = {}): Promise<z.output<Answer>> {
    return this.#check(path, answer, await this.send("GET", path, { query }));
  }

  async postJson<Answer extends z.ZodType>(path: string, answer: Answer, body: unknown): Promise<z.output<Answer>> {
    return this.#check(path, answer, await this.send("POST", path, { body }));
  }

  /** A change that may be repeated: the same body leaves the same. */
  async patchJson<Answer extends z.ZodType>(path: string, answer: Answer, body: unknown): Promise<z.output<Answer>> {
    return this.#check(path, answer, await this.send("PATCH", path, { body }));
  }

  /** A change that may be repeated: the same body leaves the same. */
  async putJson<Answer extends z.ZodType>(path: string, answer: Answer, body: unknown): Promise<z.output<Answer>> {
    return this.#check(path, answer, await this.send("PUT", path, { body }));
  }

  async deleteJson<Answer extends z.ZodType>(path: string, answer: Answer): Promise<z.output<Answer>> {
    return this.#check(path, answer, await this.send("DELETE", path));
  }

  /** @throws DrydockError of the kind that the answer's status stands for; UnavailableError when nobody answers */
  async send(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    options: SendOptions = {},
  ): Promise<Response> {
    const idempotencyKey = method === "POST" ? { "idempotency-key": randomUUID() } : {};
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#sendOnce(method, path, { ...options, headers: { ...idempotencyKey, ...options.headers } });
      } catch (error) {
        const delayMs = retryDelaysMs[attempt];
        if (!(error instanceof UnavailableError) || delayMs === undefined || options.signal?.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  async #sendOnce(method: string, path: string, options: SendOptions): Promise<Response> {
    const url = new URL(this.#connection.url + path);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = {
      authorization: `Bearer ${this.#connection.key}`,
      accept: options.accept ?? "application/json",
      ...options.headers,
    };
    const request: RequestInit = { method, headers };
    if (options.signal !== undefined) request.signal = options.signal;
    if (options.raw !== undefined) {
      if (options.raw.type !== undefined) headers["content-type"] = options.raw.type;
      request.body = await options.raw.content();
    } else if (options.body !== undefined) {
      headers["content-type"] = "application/json";
      request.body = JSON.stringify(options.body);
    }
    const response = await this.#fetch(url, request);
    if (response.ok) return response;
    throw problemError(response.status, await response.text());
  }

  async #fetch(url: URL, request: RequestInit): Promise<Response> {
    try {
      return await fetch(url, request);
    } catch (cause) {
      if (request.signal?.aborted) throw cause;
      throw new UnavailableError(
        "server_unreachable",
        `the server at ${this.#connection.url} does not answer (${reasonOf(cause)}): is \`drydock up\` running?`,
        { cause },
      );
    }
  }

  async #check<Answer extends z.ZodType>(path: string, answer: Answer, response: Response): Promise<z.output<Answer>> {
    const parsed = answer.safeParse(await response.json());
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0]!;
    throw new UnavailableError(
      "unexpected_answer",
      `the server's answer to ${path} is not what this version expects (${issue.path.join(".")}: ${issue.message}): are server and command of the same version?`,
    );
  }
}

/** `fetch failed` says nothing; its cause does. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (cause instanceof AggregateError && cause.errors[0] !== undefined) return messageOf(cause.errors[0]);
  return messageOf(cause ?? error);
}
