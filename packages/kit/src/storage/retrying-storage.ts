import { createReadStream } from "node:fs";
import { createHash } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { Readable } from "node:stream";
import { InvalidError, PreconditionFailedError, isDrydockError, messageOf } from "../errors.ts";
import { sha256 } from "../canonical-json.ts";
import { retryUnavailable, type RetryPolicy } from "../retry.ts";
import { compareKeys } from "./object-key.ts";
import type { DownloadUrlOptions, ObjectInfo, ObjectStorage, PutOptions } from "./object-storage.ts";

/**
 * Rides out a storage that is away or full for a while: every call is repeated with capped backoff until the policy's
 * budget is spent, then the last `UnavailableError` is thrown. Other errors pass at once.
 *
 * What arrives damaged time and again is an `InvalidError` (`object_damaged`): waiting does not mend it.
 *
 * Two things make the repetition safe:
 * 1. A conditional put whose answer was lost may have been stored. When the repeated put is refused because the key is
 *    taken, and what lies there has the same digest, the put has succeeded.
 * 2. A stream that breaks is opened again at the byte where it stopped, a list after the last key it gave.
 */
export class RetryingStorage implements ObjectStorage {
  readonly url: string;
  readonly localPath?: (key: string) => string;
  readonly downloadUrl?: (key: string, options: DownloadUrlOptions) => Promise<string>;
  readonly #inner: ObjectStorage;
  readonly #policy: RetryPolicy;

  constructor(inner: ObjectStorage, policy: RetryPolicy) {
    this.#inner = inner;
    this.#policy = policy;
    this.url = inner.url;
    if (inner.localPath) this.localPath = inner.localPath.bind(inner);
    if (inner.downloadUrl) this.downloadUrl = inner.downloadUrl.bind(inner);
  }

  async put(key: string, content: Uint8Array | string, options: PutOptions = {}): Promise<void> {
    await retryUnavailable(`put "${key}"`, this.#policy, async (tries) => {
      try {
        await this.#inner.put(key, content, options);
      } catch (error) {
        if (tries === 1 || !(await this.#holds(key, error, async () => sha256(content)))) throw error;
      }
    });
  }

  async putFile(key: string, path: string, options: PutOptions = {}): Promise<void> {
    await retryUnavailable(`put "${key}"`, this.#policy, async (tries) => {
      try {
        await this.#inner.putFile(key, path, options);
      } catch (error) {
        if (tries === 1 || !(await this.#holds(key, error, async () => await digestOfStream(createReadStream(path)))))
          throw error;
      }
    });
  }

  async get(key: string): Promise<Uint8Array> {
    const get = upToDamage(async () => await this.#inner.get(key));
    return await retryUnavailable(`get "${key}"`, this.#policy, get);
  }

  async read(key: string, range?: { readonly start: number; readonly endExclusive: number }): Promise<Readable> {
    const first = await retryUnavailable(`read "${key}"`, this.#policy, async () => await this.#inner.read(key, range));
    return Readable.from(this.#resumingRead(key, first, range), { objectMode: false });
  }

  async getFile(key: string, path: string): Promise<void> {
    const get = upToDamage(async () => await this.#inner.getFile(key, path));
    await retryUnavailable(`get "${key}"`, this.#policy, get);
  }

  async head(key: string): Promise<ObjectInfo | null> {
    return await retryUnavailable(`head "${key}"`, this.#policy, async () => await this.#inner.head(key));
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    let lastKey: string | null = null;
    let pages = this.#inner.list(prefix)[Symbol.asyncIterator]();
    for (;;) {
      const next: IteratorResult<ObjectInfo> = await retryUnavailable(
        `list "${prefix}"`,
        this.#policy,
        async (tries) => {
          if (tries > 1) pages = this.#inner.list(prefix)[Symbol.asyncIterator]();
          let result = await pages.next();
          while (!result.done && lastKey !== null && compareKeys(result.value.key, lastKey) <= 0)
            result = await pages.next();
          return result;
        },
      );
      if (next.done) return;
      lastKey = next.value.key;
      yield next.value;
    }
  }

  async remove(key: string): Promise<void> {
    await retryUnavailable(`remove "${key}"`, this.#policy, async () => await this.#inner.remove(key));
  }

  /** True when `error` only says that the key is taken, and taken by the very content that was to be put. */
  async #holds(key: string, error: unknown, digest: () => Promise<string>): Promise<boolean> {
    if (!(error instanceof PreconditionFailedError)) return false;
    return (await digestOfStream(await this.#inner.read(key))) === (await digest());
  }

  async *#resumingRead(
    key: string,
    first: Readable,
    range?: { readonly start: number; readonly endExclusive: number },
  ): AsyncIterable<Buffer> {
    let offset = range?.start ?? 0;
    let stream = first;
    let endExclusive = range?.endExclusive ?? null;
    for (;;) {
      try {
        for await (const chunk of stream) {
          const bytes = chunk as Buffer;
          offset += bytes.length;
          yield bytes;
        }
        return;
      } catch (broken) {
        if (isDamage(broken)) throw broken; // what was given already cannot be taken back
        stream = await retryUnavailable(`read "${key}"`, this.#policy, async (tries) => {
          if (tries === 1) throw broken; // waits once before the stream is opened again
          endExclusive ??= (await this.#inner.head(key))?.sizeBytes ?? offset;
          if (offset >= endExclusive) return Readable.from([]);
          return await this.#inner.read(key, { start: offset, endExclusive });
        });
      }
    }
  }
}

/** Damage on the way is gone the next time. What arrives damaged three times is damaged in storage: time does not heal it. */
const triesOfDamaged = 3;

function upToDamage<T>(action: () => Promise<T>): () => Promise<T> {
  let damaged = 0;
  return async () => {
    try {
      return await action();
    } catch (error) {
      if (!isDamage(error) || ++damaged < triesOfDamaged) throw error;
      throw new InvalidError("object_damaged", `${messageOf(error)}, each time: it is damaged in storage`, {
        cause: error,
      });
    }
  };
}

function isDamage(error: unknown): boolean {
  return isDrydockError(error) && error.code === "storage_damaged";
}

async function digestOfStream(stream: Readable): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(stream, hash);
  return hash.digest("hex");
}
