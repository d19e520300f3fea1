import { EventEmitter, once } from "node:events";

/** Tells those who follow a run that something about it was written. Within this process; others look again each second. */
export class RunFeed {
  readonly #emitter = new EventEmitter().setMaxListeners(0);

  notify(runId: string): void {
    this.#emitter.emit(runId);
  }

  /** Resolves at the next {@link notify} of the run, after `timeoutMs`, or when `signal` fires. Never rejects. */
  async next(runId: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    const ends = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    await once(this.#emitter, runId, { signal: ends }).catch((error: unknown) => {
      if (!ends.aborted) throw error;
    });
  }
}
