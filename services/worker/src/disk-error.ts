import { UnavailableError } from "@drydock/kit";

/** A full local disk as the retryable error it is; any other error unchanged. */
export function translateDiskError(path: string, error: unknown): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code !== "ENOSPC" && code !== "EDQUOT") return error;
  return new UnavailableError(
    "storage_full",
    `the disk is full: ${path} was not written; free space, then the run goes on by itself`,
    { cause: error },
  );
}
