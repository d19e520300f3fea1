import { readFile, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import {
  NotFoundError,
  PreconditionFailedError,
  type ObjectInfo,
  type ObjectStorage,
  type PutOptions,
} from "@drydock/kit";

/** Thrown in place of the power going out. */
export class PowerCut extends Error {}

/** Object storage in memory that outlives the processes of a test, and cuts their power at a chosen call. */
export class MemoryStorage implements ObjectStorage {
  readonly url = "memory:";
  readonly objects = new Map<string, Buffer>();
  /** Calls until the power is cut; the last one still takes effect when `lastCallCounts`. */
  callsLeft = Number.POSITIVE_INFINITY;
  lastCallCounts = false;

  async put(key: string, content: Uint8Array | string, { ifNoneMatch = false }: PutOptions = {}): Promise<void> {
    this.#call(() => {
      if (ifNoneMatch && this.objects.has(key))
        throw new PreconditionFailedError("object_exists", `object "${key}" exists already`);
      this.objects.set(key, Buffer.from(content));
    });
  }

  async putFile(key: string, path: string, options?: PutOptions): Promise<void> {
    await this.put(key, await readFile(path), options);
  }

  async get(key: string): Promise<Uint8Array> {
    return this.#call(() => this.#object(key));
  }

  async read(key: string): Promise<Readable> {
    return Readable.from([this.#call(() => this.#object(key))]);
  }

  async getFile(key: string, path: string): Promise<void> {
    await writeFile(path, await this.get(key));
  }

  async head(key: string): Promise<ObjectInfo | null> {
    return this.#call(() =>
      this.objects.has(key) ? { key, sizeBytes: this.#object(key).length, modifiedAt: new Date(0) } : null,
    );
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const keys = this.#call(() => [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort());
    for (const key of keys) yield { key, sizeBytes: this.#object(key).length, modifiedAt: new Date(0) };
  }

  async remove(key: string): Promise<void> {
    this.#call(() => void this.objects.delete(key));
  }

  #object(key: string): Buffer {
    const object = this.objects.get(key);
    if (!object) throw new NotFoundError("object_not_found", `there is no object "${key}" in storage`);
    return object;
  }

  #call<T>(action: () => T): T {
    this.callsLeft -= 1;
    if (this.callsLeft < 0) throw new PowerCut("the power is cut");
    if (this.callsLeft > 0) return action();
    if (this.lastCallCounts) action();
    throw new PowerCut("the power is cut");
  }
}
