import type { IncomingMessage } from "node:http";
import {
  ConflictError,
  ForbiddenError,
  InvalidError,
  isRetryable,
  messageOf,
  NotFoundError,
  retryUnavailable,
  UnauthenticatedError,
  UnavailableError,
  UnprocessableError,
} from "@drydock/kit";
import { z } from "zod";
import type { KubeConnection, KubeRequest } from "./kube-connection.ts";
import type { KubeObject } from "./kube-objects.ts";

export interface KubeApiOptions {
  /** One answer may take so long. */
  readonly deadlineMs?: number;
  /** Calls that may be repeated are, for so long. */
  readonly retryBudgetMs?: number;
  readonly signal?: AbortSignal;
}

type Call = Omit<KubeRequest, "signal">;

const Status = z.looseObject({
  message: z.string().default(""),
  reason: z.string().default(""),
  details: z
    .looseObject({ retryAfterSeconds: z.number().optional(), kind: z.string().optional(), name: z.string().optional() })
    .optional(),
});

/** Calls to one API server: each with a deadline, repeated where that is safe, with errors that say what to do. */
export class KubeApi {
  readonly #connection: KubeConnection;
  readonly #deadlineMs: number;
  readonly #retryBudgetMs: number;
  readonly #signal: AbortSignal | undefined;

  constructor(connection: KubeConnection, options: KubeApiOptions = {}) {
    this.#connection = connection;
    this.#deadlineMs = options.deadlineMs ?? 15_000;
    this.#retryBudgetMs = options.retryBudgetMs ?? 60_000;
    this.#signal = options.signal;
  }

  get server(): string {
    return this.#connection.server;
  }

  async get(path: string): Promise<KubeObject> {
    return await this.#repeated({ method: "GET", path });
  }

  /** Null when there is none. */
  async find(path: string): Promise<KubeObject | null> {
    return await this.get(path).catch(absent);
  }

  /** All pages of a list, each of 500 items, and the version to watch from. */
  async list(path: string, query = ""): Promise<{ items: KubeObject[]; resourceVersion: string }> {
    const items: KubeObject[] = [];
    let next = "";
    for (;;) {
      const page = await this.#repeated({
        method: "GET",
        path: `${path}?limit=500${query === "" ? "" : `&${query}`}${next === "" ? "" : `&continue=${encodeURIComponent(next)}`}`,
      });
      const { items: found, metadata } = KubeListPage.parse(page);
      items.push(...(found as KubeObject[]));
      next = metadata.continue;
      if (next === "") return { items, resourceVersion: metadata.resourceVersion };
    }
  }

  /**
   * Creates an object. A create is safe to repeat because the name decides: what a lost answer made is found by a conflict.
   *
   * @throws ConflictError `kube_exists` when an object of this name is there
   */
  async create(path: string, object: KubeObject): Promise<KubeObject> {
    return await this.#repeated({ method: "POST", path, body: object });
  }

  /** Server-side apply as field manager `drydock`. `path` is the object's. */
  async apply(path: string, object: KubeObject): Promise<KubeObject> {
    const query = "fieldManager=drydock&force=true";
    return await this.#repeated({
      method: "PATCH",
      path: `${path}?${query}`,
      body: object,
      contentType: "application/apply-patch+yaml",
    });
  }

  /** Replaces an object; `metadata.resourceVersion` guards it. Not repeated: the caller must look again. */
  async replace(path: string, object: KubeObject): Promise<KubeObject> {
    return await this.#once({ method: "PUT", path, body: object });
  }

  /** Deletes an object; one that is gone is no error. */
  async delete(path: string, options: Readonly<Record<string, unknown>> = {}): Promise<void> {
    await this.#repeated({ method: "DELETE", path, body: options }).catch(absent);
  }

  /** The answer's body as text, e.g. a pod's log. */
  async text(path: string): Promise<string> {
    const response = await this.#answered({ method: "GET", path });
    return response.text;
  }

  /** Opens a stream; the caller ends it by the signal. @throws the errors of a call */
  async stream(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const unanswered = new AbortController();
    const timer = setTimeout(() => unanswered.abort(new Error("no answer in time")), this.#deadlineMs);
    try {
      const call = { method: "GET", path } as const;
      const response = await this.#sent(call, AbortSignal.any([signal, unanswered.signal]));
      if ((response.statusCode ?? 0) < 300) return response;
      throw refusal(call, response, await textOf(response), this.server);
    } finally {
      clearTimeout(timer);
    }
  }

  async #repeated(call: Call): Promise<KubeObject> {
    const policy = {
      budgetMs: this.#retryBudgetMs,
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
    };
    return await retryUnavailable(`${call.method} ${call.path}`, policy, async () => await this.#once(call));
  }

  async #once(call: Call): Promise<KubeObject> {
    const { text } = await this.#answered(call);
    try {
      return JSON.parse(text) as KubeObject;
    } catch (error) {
      throw new UnavailableError("kube_garbled", `${call.method} ${call.path}: the answer is no JSON`, {
        cause: error,
      });
    }
  }

  async #answered(call: Call): Promise<{ text: string }> {
    const unanswered = new AbortController();
    const timer = setTimeout(() => unanswered.abort(new Error("no answer in time")), this.#deadlineMs);
    const { signal: deadline } = unanswered;
    try {
      const signal = this.#signal === undefined ? deadline : AbortSignal.any([deadline, this.#signal]);
      return await this.#answer(call, signal);
    } finally {
      clearTimeout(timer);
    }
  }

  async #answer(call: Call, signal: AbortSignal): Promise<{ text: string }> {
    const response = await this.#sent(call, signal);
    let text: string;
    try {
      text = await textOf(response);
    } catch (error) {
      throw noAnswer(call, this.server, error);
    }
    if ((response.statusCode ?? 0) >= 300) {
      const error = refusal(call, response, text, this.server);
      if (isRetryable(error)) await waitAsTold(response, signal);
      throw error;
    }
    return { text };
  }

  async #sent(call: Call, signal: AbortSignal): Promise<IncomingMessage> {
    try {
      return await this.#connection.send({ ...call, signal });
    } catch (error) {
      this.#signal?.throwIfAborted();
      throw noAnswer(call, this.server, error);
    }
  }
}

const KubeListPage = z.looseObject({
  items: z.array(z.unknown()).default([]),
  metadata: z.looseObject({ resourceVersion: z.string().default(""), continue: z.string().default("") }),
});

function absent(error: unknown): null {
  if (error instanceof NotFoundError) return null;
  throw error;
}

async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding("utf8");
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return text;
}

function noAnswer(call: Call, server: string, error: unknown): UnavailableError {
  return new UnavailableError(
    "kube_unavailable",
    `the Kubernetes API at ${server} does not answer (${messageOf(error)}): ${call.method} ${call.path}`,
    { cause: error },
  );
}

const longestToldWaitMs = 10_000;

/** Waits as long as `Retry-After` says, within bounds. */
async function waitAsTold(response: IncomingMessage, signal: AbortSignal): Promise<void> {
  const seconds = Number(response.headers["retry-after"] ?? 0);
  if (!(seconds > 0)) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, Math.min(seconds * 1000, longestToldWaitMs));
    signal.addEventListener("abort", done, { once: true });
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** What an answer that is no success means for the caller. */
export function refusal(call: Call, response: IncomingMessage, text: string, server: string): Error {
  const status = response.statusCode ?? 0;
  const { message, reason } = statusOf(text);
  const told = message === "" ? `status ${status}` : message;
  switch (status) {
    case 401:
      return new UnauthenticatedError(
        "kube_unauthenticated",
        `the Kubernetes API at ${server} does not know us (${told}): the kubeconfig's token or certificate is wrong or has expired`,
      );
    case 403:
      if (/exceeded quota/.test(message)) return new InvalidError("kube_quota", told);
      if (/being terminated/.test(message))
        return new ConflictError(
          "kube_namespace_terminating",
          `${told}: choose another namespace or wait until it is gone`,
        );
      if (/admission webhook|violates PodSecurity/.test(message)) return new InvalidError("kube_refused", told);
      return new ForbiddenError(
        "kube_forbidden",
        `${told}: apply k8s/runs/rbac.yaml to this namespace, or ask for the right`,
      );
    case 404:
      return new NotFoundError("kube_not_found", told);
    case 409:
      return new ConflictError(reason === "AlreadyExists" ? "kube_exists" : "kube_conflict", told);
    case 410:
      return new ConflictError("kube_gone", told);
    case 422:
      return new UnprocessableError("kube_invalid", told);
    default:
      if (status === 429 || status >= 500)
        return new UnavailableError("kube_busy", `${call.method} ${call.path}: ${told}`);
      return new InvalidError("kube_refused", `${call.method} ${call.path}: ${told}`);
  }
}

function statusOf(text: string): { message: string; reason: string } {
  try {
    return Status.parse(JSON.parse(text));
  } catch {
    return { message: text.trim().slice(0, 300), reason: "" };
  }
}
