import type { Readable } from "node:stream";

/** What is known of a stored object without reading it. */
export interface ObjectInfo {
  /** Path below the root of the storage, `/`-separated, no leading slash. */
  readonly key: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

export interface PutOptions {
  /** Fail with `PreconditionFailedError` (`object_exists`) when the key is taken: `If-None-Match: *`. */
  readonly ifNoneMatch?: boolean;
}

/** What a presigned download says of itself. */
export interface DownloadUrlOptions {
  readonly expiresInSeconds: number;
  /** Name under which a browser saves it. */
  readonly fileName?: string;
  readonly contentType?: string;
}

/**
 * Where checkpoints, data and models live. A put appears whole or not at all.
 *
 * Errors: `NotFoundError` (`object_not_found`), `PreconditionFailedError` (`object_exists`), `InvalidError`
 * (`invalid_object_key`), and `UnavailableError` (`storage_unavailable`, `storage_full`) for what may pass with time.
 */
export interface ObjectStorage {
  /** URL of the root (`file:///…` or `s3://bucket/prefix`); safe to print. */
  readonly url: string;
  put(key: string, content: Uint8Array | string, options?: PutOptions): Promise<void>;
  /** Copies a local file in, streaming. */
  putFile(key: string, path: string, options?: PutOptions): Promise<void>;
  get(key: string): Promise<Uint8Array>;
  /** Streams an object, or its bytes `[start, endExclusive)`. */
  read(key: string, range?: { readonly start: number; readonly endExclusive: number }): Promise<Readable>;
  /** Copies an object to a local file, streaming; the file appears whole or not at all. */
  getFile(key: string, path: string): Promise<void>;
  /** Path of the object on this machine, for reading only; absent in a storage that is elsewhere. */
  localPath?(key: string): string;
  /** A URL that lets whoever has it read the object until it expires; absent in a storage that has no server of its own. */
  downloadUrl?(key: string, options: DownloadUrlOptions): Promise<string>;
  /** Null when there is no such object. */
  head(key: string): Promise<ObjectInfo | null>;
  /** All objects whose key starts with `prefix`, sorted by key (bytes of its UTF-8). */
  list(prefix: string): AsyncIterable<ObjectInfo>;
  /** Removing what is gone succeeds. */
  remove(key: string): Promise<void>;
}
