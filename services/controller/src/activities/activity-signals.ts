import { ApplicationFailure, Context } from "@temporalio/activity";
import { isDrydockError } from "@drydock/kit";
import type { WatchSignals } from "../attempts/watch-gang.ts";

const heartbeatIntervalMs = 2_000;

/**
 * Runs a long activity under heartbeats. Of the ways that an activity is cancelled only a request of the workflow means
 * that the user wants the worker to stop; a timeout, a server that forgot us or our own shutdown mean that someone else
 * watches next, and the worker is left alone.
 */
export async function whileWatching<Result>(watch: (signals: WatchSignals) => Promise<Result>): Promise<Result> {
  const context = Context.current();
  const stop = new AbortController();
  const abandon = new AbortController();
  const onCancelled = (): void => {
    if (context.cancellationDetails?.cancelRequested) stop.abort(context.cancellationSignal.reason);
    else abandon.abort(context.cancellationSignal.reason);
  };
  context.cancellationSignal.addEventListener("abort", onCancelled, { once: true });
  if (context.cancellationSignal.aborted) onCancelled();
  context.heartbeat();
  const beating = setInterval(() => context.heartbeat(), heartbeatIntervalMs);
  try {
    return await watch({ stop: stop.signal, abandon: abandon.signal });
  } finally {
    clearInterval(beating);
    context.cancellationSignal.removeEventListener("abort", onCancelled);
  }
}

/** Turns what no retry can mend into a failure that Temporal does not retry. */
export async function failForGood<Result>(action: () => Promise<Result>): Promise<Result> {
  try {
    return await action();
  } catch (error) {
    if (isDrydockError(error) && !error.isRetryable) throw ApplicationFailure.nonRetryable(error.message, error.code);
    throw error;
  }
}
