import { isDrydockError, messageOf } from "./errors.ts";

/** How long and how often a call is repeated. All times in milliseconds. */
export interface RetryPolicy {
  /** No new try starts later than this after the first one. */
  readonly budgetMs: number;
  /** Longest wait before the second try; doubles with each further one. Default 200. */
  readonly firstDelayMs?: number;
  /** Cap of the doubling. Default 15,000. */
  readonly maximumDelayMs?: number;
  /** Told before each wait, for logs. */
  readonly onRetry?: (notice: RetryNotice) => void;
  /** Clock, wait and chance, injected by tests. */
  readonly clock?: RetryClock;
  /** Ends the waiting: the last error is thrown at once. */
  readonly signal?: AbortSignal;
}

export interface RetryNotice {
  readonly what: string;
  readonly tries: number;
  readonly delayMs: number;
  readonly error: unknown;
}

export interface RetryClock {
  now(): number;
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}

export const systemRetryClock: RetryClock = {
  now: () => performance.now(),
  sleep: async (delayMs, signal) => {
    if (signal?.aborted === true) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, delayMs);
      function done(): void {
        clearTimeout(timer);
        signal?.removeEventListener("abort", done);
        resolve();
      }
      signal?.addEventListener("abort", done, { once: true });
    });
  },
  random: Math.random,
};

/** True for errors that may pass with time: ours that say so. */
export function isRetryable(error: unknown): boolean {
  return isDrydockError(error) && error.isRetryable;
}

/**
 * Runs `action` until it succeeds, throws an error that is not retryable, or the budget is spent; then the last
 * error is thrown unchanged. The wait before try n is uniform in [½, 1] · min(maximum, first · 2ⁿ⁻²) milliseconds:
 * capped exponential backoff with jitter, so that many ranks do not come back at the same instant.
 *
 * @param what    named in `onRetry`, e.g. `put runs/r/checkpoints/…`
 * @param action  gets the number of the try, starting at 1
 */
export async function retryUnavailable<T>(
  what: string,
  policy: RetryPolicy,
  action: (tries: number) => Promise<T>,
): Promise<T> {
  const clock = policy.clock ?? systemRetryClock;
  const started = clock.now();
  for (let tries = 1; ; tries++) {
    try {
      return await action(tries);
    } catch (error) {
      const remainingMs = policy.budgetMs - (clock.now() - started);
      if (!isRetryable(error) || remainingMs <= 0 || policy.signal?.aborted === true) throw error;
      const fullDelayMs = Math.min(
        policy.maximumDelayMs ?? 15_000,
        (policy.firstDelayMs ?? 200) * 2 ** Math.min(tries - 1, 30),
      );
      const delayMs = Math.min(remainingMs, fullDelayMs * (0.5 + clock.random() / 2));
      policy.onRetry?.({ what, tries, delayMs, error });
      await clock.sleep(delayMs, policy.signal);
    }
  }
}

/** One line about a retry, for logs. */
export function describeRetry(notice: RetryNotice): string {
  return `${notice.what} failed (try ${notice.tries}): ${messageOf(notice.error)}; trying again in ${Math.round(notice.delayMs)} ms`;
}
