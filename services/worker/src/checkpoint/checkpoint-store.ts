import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { canonicalJson, retryUnavailable, type RetryPolicy } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";
import { translateDiskError } from "../disk-error.ts";
import { optimizerPartOf } from "../engine/optimizer-file.ts";
import type { RankGroup } from "../ranks/rank-group.ts";
import type { Trainer } from "../training/trainer.ts";
import { readCheckpoint, readLatestCheckpoint } from "./read-checkpoint.ts";
import { pruneCheckpoints } from "./retention.ts";
import { checkpointKey, stateName, type RunFolder } from "./run-folder.ts";
import { readState, type TrainingState } from "./training-state.ts";
import { writeCheckpoint, type WrittenCheckpoint } from "./write-checkpoint.ts";

export interface CheckpointStoreOptions {
  readonly folder: RunFolder;
  /** The ranks that save and restore together. */
  readonly group: RankGroup;
  /** Folder on this machine for files on their way; its content may be lost. */
  readonly scratchDirectory: string;
  readonly spec: Pick<RunSpec, "checkpoint" | "mode" | "training">;
  /** How long a full local disk is waited for; storage has its own policy. */
  readonly diskRetry: RetryPolicy;
  readonly now: () => Date;
}

/** The checkpoints of one run as its loop sees them: restore the latest, save this step. */
export class CheckpointStore {
  readonly #options: CheckpointStoreOptions;
  #lastSavedStep: number | null = null;

  constructor(options: CheckpointStoreOptions) {
    this.#options = options;
  }

  /** The step whose weights were saved or restored last. */
  get lastSavedStep(): number | null {
    return this.#lastSavedStep;
  }

  /** Puts weights and optimizer of the newest usable checkpoint into `trainer`; null when there is none. */
  async restoreLatest(trainer: Trainer, warn: (message: string) => void): Promise<TrainingState | null> {
    const directory = join(this.#options.scratchDirectory, "resume");
    const { folder, group } = this.#options;
    const isNeeded = (name: string, worldSize: number): boolean => trainer.needsToRestore(name, worldSize);
    const found = await readLatestCheckpoint(folder, directory, warn, group, isNeeded);
    if (found === null) return null;
    const state = await readState(found.key, directory);
    await trainer.restore(directory);
    await rm(directory, { recursive: true, force: true });
    this.#lastSavedStep = state.step;
    await this.#prune(state); // an attempt may have died between saving and removing
    return state;
  }

  /**
   * Puts the weights of another run's checkpoint into `trainer`, every file checked.
   *
   * @returns where they came from, for the lineage
   * @throws UnusableCheckpointError when it is not there or damaged, or holds other tensors than are trained
   */
  async startFrom(
    trainer: Trainer,
    { run, step }: { readonly run: string; readonly step: number },
  ): Promise<TrainingState["warmStart"]> {
    const directory = join(this.#options.scratchDirectory, "warm-start");
    const { storage } = this.#options.folder;
    const key = checkpointKey({ prefix: `runs/${run}/` }, step);
    const { manifestSha256 } = await readCheckpoint(storage, key, directory, isWeights);
    await trainer.startFrom(directory);
    await rm(directory, { recursive: true, force: true });
    return { runId: run, step, manifestSha256 };
  }

  /** Saves the trainer and the state as the checkpoint of the state's step, then removes those that need not be kept. */
  async save(trainer: Trainer, state: TrainingState): Promise<WrittenCheckpoint> {
    const { folder, spec, group } = this.#options;
    const directory = join(this.#options.scratchDirectory, "saving");
    const names = await retryUnavailable(
      `write checkpoint of step ${state.step} to ${directory}`,
      this.#options.diskRetry,
      async () => await writeLocally(trainer, group.isFirst ? state : null, directory),
    );
    const saved = await writeCheckpoint(
      folder,
      {
        step: state.step,
        mode: spec.mode,
        worldSize: group.worldSize,
        dataCursor: state.dataCursor,
        seed: spec.training.seed,
        files: names.map((name) => ({ name, path: join(directory, name) })),
      },
      this.#options.now(),
      group,
    );
    this.#lastSavedStep = state.step;
    await rm(directory, { recursive: true, force: true });
    await this.#prune(state);
    return saved;
  }

  async #prune({ step, best }: TrainingState): Promise<void> {
    if (!this.#options.group.isFirst) return;
    const { keepLast, keepBest } = this.#options.spec.checkpoint;
    await pruneCheckpoints(this.#options.folder, {
      currentStep: step,
      keepLast,
      bestStep: keepBest ? (best?.step ?? null) : null,
    });
  }
}

function isWeights(name: string): boolean {
  return name !== stateName && optimizerPartOf(name) === null;
}

/** @param state  null for ranks that write only what they alone hold */
async function writeLocally(trainer: Trainer, state: TrainingState | null, directory: string): Promise<string[]> {
  try {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true });
    const names = await trainer.save(directory);
    if (state === null) return names;
    await writeFile(join(directory, stateName), `${canonicalJson(state)}\n`);
    return [...names, stateName];
  } catch (error) {
    throw translateDiskError(directory, error);
  }
}
