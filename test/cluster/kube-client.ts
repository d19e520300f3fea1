import { request } from "node:https";
import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";

const mostTries = 12;

/** A Kubernetes object as JSON. */
export interface KubeObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly uid?: string;
    readonly [key: string]: unknown;
  };
  readonly [key: string]: unknown;
}

/** What an API server refused. */
export class KubeRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The tests' own plain client: they look at the cluster from outside, not through the code under test. */
export class KubeClient {
  readonly #server: string;
  readonly #certificateAuthority: Buffer;
  readonly #token: string;

  constructor(server: string, certificateAuthority: Buffer, token: string) {
    this.#server = server;
    this.#certificateAuthority = certificateAuthority;
    this.#token = token;
  }

  /**
   * Waits and asks again while the server says that it is not ready to answer (429), as it does after its start.
   *
   * @throws KubeRefusal for an answer that is no success
   */
  async call<T = KubeObject>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once<T>(method, path, body, contentType);
      } catch (error) {
        if (!(error instanceof KubeRefusal) || error.status !== 429 || tries === mostTries) throw error;
        await delay(250 * tries);
      }
    }
  }

  async #once<T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const sent = body === undefined ? undefined : JSON.stringify(body);
      const outgoing = request(
        new URL(path, this.#server),
        {
          method,
          ca: this.#certificateAuthority,
          timeout: 30_000,
          headers: {
            authorization: `Bearer ${this.#token}`,
            ...(sent === undefined ? {} : { "content-type": contentType ?? "application/json" }),
          },
        },
        (response) => {
          textOf(response).then((text) => {
            const status = response.statusCode ?? 0;
            if (status >= 300) reject(new KubeRefusal(status, `${method} ${path}: ${status} ${text.slice(0, 600)}`));
            else resolve((text.startsWith("{") ? JSON.parse(text) : text) as T);
          }, reject);
        },
      );
      outgoing.once("timeout", () => outgoing.destroy(new Error(`${method} ${path}: no answer in 30 s`)));
      outgoing.once("error", reject).end(sent);
    });
  }

  async list(path: string): Promise<KubeObject[]> {
    return (await this.call<{ items: KubeObject[] }>("GET", path)).items;
  }

  /** Server-side apply. `path` is the collection's. */
  async apply(path: string, object: KubeObject): Promise<KubeObject> {
    const named = `${path}/${object.metadata.name}?fieldManager=drydock-tests&force=true`;
    return await this.call("PATCH", named, object, "application/apply-patch+yaml");
  }

  async patch(path: string, change: unknown): Promise<KubeObject> {
    return await this.call("PATCH", path, change, "application/merge-patch+json");
  }

  /** Null when there is none. */
  async find(path: string): Promise<KubeObject | null> {
    try {
      return await this.call("GET", path);
    } catch (error) {
      if (error instanceof KubeRefusal && error.status === 404) return null;
      throw error;
    }
  }
}

async function textOf(stream: Readable): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}
