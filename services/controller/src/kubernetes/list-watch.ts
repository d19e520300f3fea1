import type { IncomingMessage } from "node:http";
import { ConflictError, messageOf, type Logger } from "@drydock/kit";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-objects.ts";

export interface ListWatchOptions {
  readonly api: KubeApi;
  /** Path of the collection, e.g. `/api/v1/namespaces/runs/pods`. */
  readonly path: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  /** The collection is that of all namespaces: names are then `namespace/name`. */
  readonly isClusterWide?: boolean;
  /** What is kept of an object; the whole when absent. Its `metadata` must stay. */
  readonly reduce?: (object: KubeObject) => KubeObject;
  readonly logger: Logger;
  /** A full list at least so often, however quiet the watch is. Default ten minutes. */
  readonly resyncMs?: number;
  /** Longest wait after a failure. Default 30 s. */
  readonly maximumDelayMs?: number;
}

/** Told of an object that changed, or that is gone (null). A hint to look again, never the data of a decision. */
export type ChangeListener<T> = (name: string, object: T | null) => void;

interface WatchEvent {
  readonly type: string;
  readonly object: KubeObject & { readonly code?: number; readonly message?: string };
}

/**
 * A cache of one collection that follows the API server: a paged list, then a watch with bookmarks from its version on; on
 * any error it comes back by itself, with full jitter; a version that is too old (410) starts over with a list. An object
 * of the same name with another uid counts as gone and made again. One listener's error harms no other.
 */
export class ListWatch<T extends KubeObject> {
  readonly #options: ListWatchOptions;
  readonly #objects = new Map<string, T>();
  readonly #listeners = new Set<ChangeListener<T>>();
  readonly #stopped = new AbortController();
  #resourceVersion = "";
  #listedAtMs = 0;
  #failures = 0;
  #running: Promise<void> | null = null;
  /** When the server last said anything, bookmarks included; milliseconds of the monotonic clock. */
  lastEventAtMs = 0;

  constructor(options: ListWatchOptions) {
    this.#options = options;
  }

  /** Lists, then follows in the background. @throws the errors of the first list */
  async start(): Promise<void> {
    await this.#list();
    this.#running = this.#follow();
  }

  /** Ends the watch; the cache stays as it is. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  get(name: string): T | undefined {
    return this.#objects.get(name);
  }

  list(): T[] {
    return [...this.#objects.values()];
  }

  /** Answers the function that ends the subscription. */
  subscribe(listener: ChangeListener<T>): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #follow(): Promise<void> {
    const { logger, path, resyncMs = 600_000 } = this.#options;
    while (!this.#stopped.signal.aborted) {
      try {
        if (this.#resourceVersion === "" || performance.now() - this.#listedAtMs > resyncMs) await this.#list();
        await this.#watch();
        this.#failures = 0;
      } catch (error) {
        if (this.#stopped.signal.aborted) return;
        if (error instanceof ConflictError && error.code === "kube_gone") this.#resourceVersion = "";
        this.#failures += 1;
        logger.debug({ path, failures: this.#failures, error: messageOf(error) }, "watch is cut; coming back");
        await this.#pause();
      }
    }
  }

  /** Full jitter, so that many watchers do not come back at the same instant. */
  async #pause(): Promise<void> {
    const most = Math.min(this.#options.maximumDelayMs ?? 30_000, 200 * 2 ** Math.min(this.#failures, 10));
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, Math.random() * most);
      const { signal } = this.#stopped;
      signal.addEventListener("abort", done, { once: true });
      function done(): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      }
    });
  }

  async #list(): Promise<void> {
    const { api, path } = this.#options;
    const { items, resourceVersion } = await api.list(path, this.#selector());
    const present = new Set(items.map((item) => this.#keyOf(item)));
    for (const name of this.#objects.keys()) if (!present.has(name)) this.#remove(name);
    for (const item of items) this.#put(item as T);
    this.#resourceVersion = resourceVersion;
    this.#listedAtMs = performance.now();
    this.lastEventAtMs = this.#listedAtMs;
  }

  async #watch(): Promise<void> {
    const { api, path, resyncMs = 600_000 } = this.#options;
    const timeoutSeconds = Math.max(1, Math.min(240 + Math.floor(Math.random() * 240), Math.ceil(resyncMs / 1000)));
    const selector = this.#selector();
    const query = [
      "watch=true",
      "allowWatchBookmarks=true",
      `timeoutSeconds=${timeoutSeconds}`,
      `resourceVersion=${encodeURIComponent(this.#resourceVersion)}`,
      ...(selector === "" ? [] : [selector]),
    ].join("&");
    // The server ends a watch in time; one that it forgets is ended here.
    const overdue = new AbortController();
    const timer = setTimeout(() => overdue.abort(new Error("the watch is overdue")), (timeoutSeconds + 15) * 1000);
    try {
      const response = await api.stream(`${path}?${query}`, AbortSignal.any([this.#stopped.signal, overdue.signal]));
      for await (const line of linesOf(response)) {
        this.lastEventAtMs = performance.now();
        this.#failures = 0;
        this.#take(JSON.parse(line) as WatchEvent);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take({ type, object }: WatchEvent): void {
    if (type === "ERROR") {
      const message = object.message ?? "watch error";
      throw object.code === 410 ? new ConflictError("kube_gone", message) : new Error(message);
    }
    this.#resourceVersion = object.metadata.resourceVersion ?? this.#resourceVersion;
    if (type === "DELETED") this.#remove(this.#keyOf(object));
    else if (type !== "BOOKMARK") this.#put(object as KubeObject as T);
  }

  #put(object: T): void {
    const { uid, resourceVersion } = object.metadata;
    const name = this.#keyOf(object);
    const known = this.#objects.get(name);
    if (known?.metadata.resourceVersion === resourceVersion && known?.metadata.uid === uid) return;
    if (known && known.metadata.uid !== uid) this.#remove(name);
    // Who wrote which field is as large as the rest of a pod, and nobody reads it.
    const { managedFields: _managedFields, ...metadata } = object.metadata;
    const whole: T = { ...object, metadata };
    const kept = (this.#options.reduce?.(whole) ?? whole) as T;
    this.#objects.set(name, kept);
    this.#tell(name, kept);
  }

  #remove(name: string): void {
    if (this.#objects.delete(name)) this.#tell(name, null);
  }

  #tell(name: string, object: T | null): void {
    for (const listener of this.#listeners)
      try {
        listener(name, object);
      } catch (error) {
        this.#options.logger.error({ err: error, name }, "a listener of the watch failed");
      }
  }

  #selector(): string {
    const { labelSelector, fieldSelector } = this.#options;
    return Object.entries({ labelSelector, fieldSelector })
      .flatMap(([key, value]) => (value === undefined ? [] : [`${key}=${encodeURIComponent(value)}`]))
      .join("&");
  }

  #keyOf({ metadata }: KubeObject): string {
    return this.#options.isClusterWide === true ? `${metadata.namespace ?? ""}/${metadata.name}` : metadata.name;
  }
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  let rest = "";
  for await (const chunk of response) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield line;
  }
  // A last line without its end was cut in the middle: the watch starts again from the version before it.
}
