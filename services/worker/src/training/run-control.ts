/** What a run is asked to do besides going on. `stop` saves first, `abort` does not. */
export type RunRequest = "stop" | "abort";

/** Requests as the loop reads them. */
export interface LoopControl {
  readonly request: RunRequest | null;
  readonly isCheckpointWanted: boolean;
  /** Aborted as soon as the loop is to end. */
  readonly signal: AbortSignal;
  /** To be called when a checkpoint of the current step was saved. */
  checkpointSaved(): void;
  /** Takes notice of what was asked for: between steps, so that all ranks obey at the same one. */
  agree(): Promise<void>;
}

/**
 * Requests to a running loop, from the control plane or from a signal. The loop reads them between steps; whatever
 * takes longer than a step (an evaluation) listens to `signal`.
 */
export class RunControl implements LoopControl {
  readonly #controller = new AbortController();
  #request: { readonly kind: RunRequest; readonly exitCode: number } | null = null;
  #isCheckpointWanted = false;
  #isSignalled = false;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get request(): RunRequest | null {
    return this.#request?.kind ?? null;
  }

  /** The exit code that the request came with. */
  get exitCode(): number | null {
    return this.#request?.exitCode ?? null;
  }

  /** Asks for a checkpoint, a stop after a checkpoint, or an abort; an abort outranks a stop, the first of equals stays. */
  ask(request: RunRequest, exitCode: number): void {
    if (this.#request === null || (request === "abort" && this.#request.kind === "stop"))
      this.#request = { kind: request, exitCode };
    this.#controller.abort();
  }

  /** The same, asked of the process itself: whoever did so waits for its end. */
  askBySignal(exitCode: number): void {
    this.#isSignalled = true;
    this.ask("stop", exitCode);
  }

  /** True when the process was asked to end by a signal. */
  get isSignalled(): boolean {
    return this.#isSignalled;
  }

  askForCheckpoint(): void {
    this.#isCheckpointWanted = true;
  }

  get isCheckpointWanted(): boolean {
    return this.#isCheckpointWanted;
  }

  checkpointSaved(): void {
    this.#isCheckpointWanted = false;
  }

  /** Alone there is nobody to agree with: requests count at once. */
  async agree(): Promise<void> {}
}
