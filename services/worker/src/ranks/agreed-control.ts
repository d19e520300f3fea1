import type { LoopControl, RunControl, RunRequest } from "../training/run-control.ts";
import type { RankGroup } from "./rank-group.ts";

/**
 * Requests that all ranks obey at the same step: whichever rank was asked to stop or to abort, all do. Checkpoints are asked
 * for of rank 0.
 */
export class AgreedControl implements LoopControl {
  readonly #own: RunControl;
  readonly #group: RankGroup;
  #request: RunRequest | null = null;
  #isCheckpointWanted = false;

  constructor(own: RunControl, group: RankGroup) {
    this.#own = own;
    this.#group = group;
  }

  get request(): RunRequest | null {
    return this.#request;
  }

  get isCheckpointWanted(): boolean {
    return this.#isCheckpointWanted;
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }

  checkpointSaved(): void {
    this.#isCheckpointWanted = false;
    this.#own.checkpointSaved();
  }

  async agree(): Promise<void> {
    const { request, isCheckpointWanted } = this.#own;
    const wishes = Float64Array.of(
      request === "stop" ? 1 : 0,
      request === "abort" ? 1 : 0,
      isCheckpointWanted && this.#group.isFirst ? 1 : 0,
    );
    await this.#group.collective?.allReduceSum([wishes]);
    const [stop, abort, checkpoint] = wishes as unknown as [number, number, number];
    this.#request = abort > 0 ? "abort" : stop > 0 ? "stop" : null;
    this.#isCheckpointWanted = checkpoint > 0;
  }
}
