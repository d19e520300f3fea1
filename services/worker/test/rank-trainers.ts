import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openPipeline, type TcpRing } from "@drydock/engine";
import { sha256 } from "@drydock/kit";
import { RunSpec, WorkerConfig, type DataRecord } from "@drydock/spec";
import { engineDoors } from "../src/engine/engine-doors.ts";
import { localPathOf, readMessagesFile } from "../src/rows/read-messages.ts";
import type { StepMeasure, Trainer } from "../src/training/trainer.ts";
import { localRing } from "./local-ring.ts";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

export interface RanksOptions {
  readonly mode: "lora" | "full";
  readonly worldSize: number;
  readonly stages?: number;
  readonly recomputes?: boolean;
  /** Decoder layers of the model; default 2. */
  readonly layers?: number;
}

export const globalBatchSize = 6;

/** Trainers of several ranks in this process, connected over its own TCP. */
export class RankTrainers {
  readonly root: string;
  readonly records: readonly DataRecord[];
  readonly #rings: TcpRing[] = [];
  readonly #trainers: Trainer[] = [];

  private constructor(root: string, records: readonly DataRecord[]) {
    this.root = root;
    this.records = records;
  }

  static async create(): Promise<RankTrainers> {
    const root = await mkdtemp(join(tmpdir(), "drydock-ranks-"));
    for (const layers of [2, 3]) await createTinyModel(join(root, `model-${layers}`), 1, layers);
    const path = await createTinyData(join(root, "data"), 12);
    return new RankTrainers(root, await readMessagesFile(path, { task: "vqa", scratchDirectory: root }));
  }

  configOf({ mode, worldSize, stages = 1, recomputes = false, layers = 2 }: RanksOptions): WorkerConfig {
    return WorkerConfig.parse({
      kind: "train",
      runId: "r1",
      spec: RunSpec.parse({
        name: "tiny",
        model: "tiny-base",
        mode,
        dataset: "tiny@1",
        task: "vqa",
        training: { globalBatchSize, learningRate: 0.01, lora: { rank: 4, alpha: 8, dropout: 0.1 } },
      }),
      layout: {
        gpus: worldSize,
        pods: worldSize,
        gpusPerPod: 1,
        dataParallel: worldSize / stages,
        pipelineStages: stages,
        sharding: mode === "full" && worldSize > stages ? "optimizer" : "none",
        microBatchSize: 2,
        accumulationSteps: 1,
        recomputeActivations: recomputes,
      },
      totalSteps: 20,
      modelDirectory: join(this.root, `model-${layers}`),
      recordsKey: "",
      systemPrompt: "Be brief.",
      planDigest: "p",
      datasetDigest: null,
      modelName: "tiny",
      modelVersion: 1,
      threads: 1,
    });
  }

  async open(options: RanksOptions): Promise<Trainer[]> {
    const { worldSize, stages = 1 } = options;
    const rings = worldSize === 1 ? [null] : await localRing(worldSize);
    this.#rings.push(...rings.filter((ring) => ring !== null));
    const opened = await Promise.all(
      rings.map(async (ring) => {
        const openStages = async (): ReturnType<typeof openPipeline> =>
          await openPipeline({
            collective: ring as TcpRing,
            stages,
            host: "127.0.0.1",
            epoch: 1,
            token: "secret",
          });
        return await engineDoors.openTrainer(this.configOf(options), localPathOf, ring, openStages);
      }),
    );
    this.#trainers.push(...opened);
    return opened;
  }

  /** What every rank measured, step by step. */
  async train(ranks: readonly Trainer[], firstStep: number, steps: number): Promise<StepMeasure[][]> {
    const measures: StepMeasure[][] = [];
    for (let step = firstStep; step < firstStep + steps; step++) {
      const first = (globalBatchSize * step) % this.records.length;
      const batch = this.records.slice(first, first + globalBatchSize);
      measures.push(await Promise.all(ranks.map(async (rank) => await rank.step(batch, step + 1))));
    }
    return measures;
  }

  async save(ranks: readonly Trainer[]): Promise<string> {
    const directory = await mkdtemp(join(this.root, "checkpoint-"));
    await Promise.all(ranks.map(async (rank) => await rank.save(directory)));
    return directory;
  }

  /** Ends the trainers of one test. */
  async closeAll(): Promise<void> {
    await Promise.all(this.#trainers.splice(0).map(async (trainer) => await trainer.close()));
    await Promise.all(this.#rings.splice(0).map(async (ring) => await ring.close()));
  }

  async remove(): Promise<void> {
    await rm(this.root, { recursive: true, force: true });
  }
}

export async function digestsOf(directory: string): Promise<Record<string, string>> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".safetensors"));
  const digests = names.sort().map(async (name) => [name, sha256(await readFile(join(directory, name)))] as const);
  return Object.fromEntries(await Promise.all(digests));
}

/** Between what the first ranks measured, relative to `b`. */
export function largestDifference(
  a: readonly StepMeasure[][],
  b: readonly StepMeasure[][],
  key: keyof StepMeasure,
): number {
  return Math.max(...a.map((measures, step) => relative(measures[0]?.[key] ?? 0, b[step]?.[0]?.[key] ?? 1)));
}

export function relative(a: number, b: number): number {
  return Math.abs(a - b) / Math.abs(b);
}
