import { ConflictError, NotFoundError, UnprocessableError, type ObjectStorage } from "@drydock/kit";
import {
  terminalRunStates,
  warmStartMismatch,
  type Checkpoint,
  type Run,
  type RunSpec,
  type WarmStart,
} from "@drydock/spec";
import type { RunReportStore } from "../store/run-report-store.ts";
import type { RunStore } from "../store/run-store.ts";

export interface WarmStartsOptions {
  readonly runs: RunStore;
  readonly reports: RunReportStore;
  readonly storage: ObjectStorage;
}

/** Finds the checkpoints that runs begin from. */
export class WarmStarts {
  readonly #options: WarmStartsOptions;

  constructor(options: WarmStartsOptions) {
    this.#options = options;
  }

  /**
   * The warm start of a spec with its step filled in. Only runs that are over are taken: others still remove checkpoints.
   *
   * @param spec  with the number of its model's version
   * @throws NotFoundError `run_not_found`, `checkpoint_not_found`
   * @throws ConflictError `run_not_over`
   * @throws UnprocessableError `warm_start_mismatch` when the checkpoint holds other weights than the run trains
   */
  async resolve(spec: RunSpec): Promise<WarmStart | undefined> {
    const { warmStart } = spec;
    if (warmStart === undefined) return undefined;
    const source = await this.#runOf(warmStart);
    if (!terminalRunStates.includes(source.state)) {
      const message = `run ${source.id} is ${source.state} and may still remove checkpoints: begin from it when it is over`;
      throw new ConflictError("run_not_over", message, at("warmStart.run", "run_not_over", message));
    }
    const mismatch = warmStartMismatch(spec, source.spec);
    if (mismatch !== null)
      throw new UnprocessableError(
        "warm_start_mismatch",
        mismatch.message,
        at(mismatch.path, "warm_start_mismatch", mismatch.message),
      );
    return { run: source.id, step: stepOf(warmStart, await this.#kept(source.id)) };
  }

  async #runOf({ run }: WarmStart): Promise<Run> {
    try {
      return await this.#options.runs.get(run);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new NotFoundError(error.code, error.message, at("warmStart.run", error.code, error.message));
    }
  }

  /** The checkpoints of a run that were not removed since. */
  async #kept(runId: string): Promise<Checkpoint[]> {
    const manifests = new Set<string>();
    for await (const { key } of this.#options.storage.list(`runs/${runId}/checkpoints/`))
      if (key.endsWith("/manifest.json")) manifests.add(key);
    const told = await this.#options.reports.allCheckpoints(runId);
    return told.filter(({ key }) => manifests.has(`${key}/manifest.json`));
  }
}

/** @param kept  in the order of their steps */
function stepOf({ run, step }: WarmStart, kept: readonly Checkpoint[]): number {
  const found =
    step === undefined
      ? (kept.find(({ isBest }) => isBest) ?? kept.at(-1))
      : kept.find((checkpoint) => checkpoint.step === step);
  if (found) return found.step;
  const there = kept.length === 0 ? "none is kept" : `kept are ${kept.map((checkpoint) => checkpoint.step).join(", ")}`;
  const message = `run ${run} has no checkpoint${step === undefined ? "" : ` of step ${step}`} to begin from: ${there}`;
  throw new NotFoundError("checkpoint_not_found", message, at("warmStart", "checkpoint_not_found", message));
}

function at(path: string, code: string, message: string) {
  return { details: [{ path, code, message }] };
}
