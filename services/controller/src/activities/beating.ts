import { Context } from "@temporalio/activity";

const heartbeatIntervalMs = 2_000;

/**
 * Runs long work of an activity with heartbeats. The signal that it gets is aborted only when the workflow cancels the
 * activity: a controller that shuts down, or an activity that timed out and was handed to another, must leave the worker
 * alone.
 */
export async function beating<T>(work: (stopSignal: AbortSignal) => Promise<T>): Promise<T> {
  const context = Context.current();
  const stop = new AbortController();
  const onAbort = (): void => {
    if (context.cancellationDetails?.cancelRequested) stop.abort(new Error("the workflow asked to stop"));
  };
  context.cancellationSignal.addEventListener("abort", onAbort);
  if (context.cancellationSignal.aborted) onAbort();
  context.heartbeat();
  const timer = setInterval(() => context.heartbeat(), heartbeatIntervalMs);
  try {
    return await work(stop.signal);
  } finally {
    clearInterval(timer);
    context.cancellationSignal.removeEventListener("abort", onAbort);
  }
}
