import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { BoxSpace } from "@drydock/data";
import type { DataCursor, DataRecord } from "@drydock/spec";
import type { EngineDoors } from "../src/training/engine-doors.ts";
import type { Question, RowSource, StepMeasure, Trainer } from "../src/training/trainer.ts";

/** One weight with momentum, pulled by the numbers in the rows: enough to see any step that is lost, repeated or reordered. */
export class ToyTrainer implements Trainer {
  weight = 0;
  momentum = 0;
  losses: ((step: number) => number) | null = null;
  /** How long a step takes, so that others get their turn between steps. */
  pauseMs = 0;

  async check(): Promise<void> {}

  async step(rows: readonly DataRecord[], step: number): Promise<StepMeasure> {
    if (this.pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, this.pauseMs));
    const gradient = rows.reduce((sum, { rowId }) => sum + Math.sin(this.weight + Number(rowId)), 0) / rows.length;
    this.momentum = 0.9 * this.momentum + gradient;
    this.weight -= 0.1 * this.momentum * (1 / step);
    return {
      loss: this.losses?.(step) ?? Math.abs(gradient),
      learningRate: 0.1,
      gradientNorm: Math.abs(gradient),
      tokens: 7 * rows.length,
    };
  }

  async save(directory: string): Promise<string[]> {
    await writeFile(join(directory, "adapter_model.safetensors"), Buffer.from(new Float64Array([this.weight]).buffer));
    await writeFile(join(directory, "optimizer-0.safetensors"), Buffer.from(new Float64Array([this.momentum]).buffer));
    return ["adapter_model.safetensors", "optimizer-0.safetensors"];
  }

  async restore(directory: string): Promise<void> {
    this.weight = (await readFile(join(directory, "adapter_model.safetensors"))).readDoubleLE(0);
    this.momentum = (await readFile(join(directory, "optimizer-0.safetensors"))).readDoubleLE(0);
  }

  async startFrom(directory: string): Promise<void> {
    this.weight = (await readFile(join(directory, "adapter_model.safetensors"))).readDoubleLE(0);
  }

  needsToRestore(): boolean {
    return true;
  }

  boxSpaceOf(): BoxSpace {
    return { convention: "json-relative-1000" };
  }

  async answer(questions: readonly Question[]): Promise<string[]> {
    return questions.map(({ record }) => `answer to ${record.rowId}`);
  }

  async publish(directory: string): Promise<string[]> {
    await writeFile(join(directory, "adapter_model.safetensors"), Buffer.from(new Float64Array([this.weight]).buffer));
    return ["adapter_model.safetensors"];
  }

  async close(): Promise<void> {}
}

/** Rows numbered 0 to 9, two by two, in file order. */
export class CountingRows implements RowSource {
  readonly rowsPerEpoch = 10;
  #index = 0;

  async next(): Promise<readonly DataRecord[]> {
    return [0, 1].map(() => ({ rowId: String(this.#index++ % this.rowsPerEpoch) }) as DataRecord);
  }

  state(): DataCursor {
    return {
      epoch: Math.floor(this.#index / this.rowsPerEpoch),
      index: this.#index % this.rowsPerEpoch,
      order: "sequential",
      seed: 1,
      rows: this.rowsPerEpoch,
    };
  }

  restore(cursor: DataCursor): void {
    this.#index = cursor.epoch * cursor.rows + cursor.index;
  }
}

/** The toys behind the engine's doors. */
export function toyEngine(trainer = new ToyTrainer()): EngineDoors {
  return {
    openTrainer: async () => trainer,
    openAnswerer: async () => trainer,
    rowsOf: () => new CountingRows(),
  };
}
