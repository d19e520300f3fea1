import { InvalidError, exitCodes, isDrydockError, messageOf, type DrydockErrorOptions } from "@drydock/kit";
import { PeerLostError } from "@drydock/engine";
import type { RunReason } from "@drydock/spec";
import { StaleEpochError } from "./checkpoint/fence.ts";
import { StaleAttemptError } from "./control/stale-attempt-error.ts";
import { DivergedError } from "./training/diverged-error.ts";

/** A row, a picture or the data as a whole cannot be used; the message names the row. */
export class BadDataError extends InvalidError {
  constructor(message: string, options: DrydockErrorOptions = {}) {
    super("bad_data", message, options);
  }
}

/** How a process ends because of an error. */
export interface Failure {
  readonly exitCode: number;
  readonly reason: RunReason;
  /** One sentence for people, with what to do. */
  readonly message: string;
  /** False when nobody foresaw the error: then its stack belongs in the log. */
  readonly isExpected: boolean;
}

const outOfMemoryPattern =
  /bad_alloc|out of memory|failed to allocate|allocation failed|ERR_WORKER_OUT_OF_MEMORY|BFCArena/i;
const hardwarePattern = /\bXid\b|uncorrectable ECC|CUDA_ERROR_(?:ECC|HARDWARE|ILLEGAL_ADDRESS)|device-side assert/i;

/** The failure class, exit code and sentence of an error (design §6 and §7). */
export function failureOf(error: unknown): Failure {
  const message = messageOf(error);
  if (error instanceof StaleEpochError || error instanceof StaleAttemptError)
    return { exitCode: exitCodes.interrupted, reason: "worker-lost", message, isExpected: true };
  if (error instanceof DivergedError)
    return { exitCode: exitCodes.badConfig, reason: "diverged", message, isExpected: true };
  if (error instanceof BadDataError)
    return { exitCode: exitCodes.badData, reason: "bad-data", message, isExpected: true };
  if (error instanceof PeerLostError)
    return { exitCode: exitCodes.retry, reason: "worker-lost", message, isExpected: true };
  if (isDrydockError(error)) {
    if (error.isRetryable)
      return { exitCode: exitCodes.retry, reason: "storage-unavailable", message, isExpected: true };
    return { exitCode: exitCodes.badConfig, reason: "bad-config", message, isExpected: true };
  }
  if (hardwarePattern.test(message))
    return { exitCode: exitCodes.hardware, reason: "hardware", message, isExpected: true };
  if (outOfMemoryPattern.test(message)) {
    return {
      exitCode: exitCodes.outOfMemory,
      reason: "out-of-memory",
      message: `memory ran out (${message}): use a smaller training.microBatchSize or image.maxPixels`,
      isExpected: true,
    };
  }
  return { exitCode: 1, reason: "internal-error", message: `unexpected error: ${message}`, isExpected: false };
}
