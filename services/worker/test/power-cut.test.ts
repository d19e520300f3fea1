import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RunSpec } from "@drydock/spec";
import { CheckpointStore } from "../src/checkpoint/checkpoint-store.ts";
import { claimEpoch } from "../src/checkpoint/fence.ts";
import { readCheckpoint } from "../src/checkpoint/read-checkpoint.ts";
import { checkpointKey, checkpointSteps } from "../src/checkpoint/run-folder.ts";
import { RankGroup } from "../src/ranks/rank-group.ts";
import { RunControl } from "../src/training/run-control.ts";
import { train } from "../src/training/train.ts";
import type { TrainingListener } from "../src/training/training-listener.ts";
import { MemoryStorage, PowerCut } from "./memory-storage.ts";
import { CountingRows, ToyTrainer } from "./toy-engine.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-power-"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

const deaf: TrainingListener = {
  phaseChanged() {},
  stepFinished() {},
  checkpointSaved() {},
  evaluationFinished() {},
  log() {},
};
const totalSteps = 12;

/** One attempt until its end or its power cut; the weight that it ended with. */
async function attempt(
  storage: MemoryStorage,
  epoch: number,
  checkpoint: { everySteps: number; keepLast: number },
): Promise<number> {
  const spec = RunSpec.parse({ name: "toy", model: "toy", dataset: "toy@1", task: "vqa", checkpoint });
  const folder = { storage, prefix: "runs/r1/", runId: "r1", epoch };
  const trainer = new ToyTrainer();
  await claimEpoch(folder, epoch);
  await train({
    spec,
    totalSteps,
    trainer,
    rows: new CountingRows(),
    evaluator: null,
    checkpoints: new CheckpointStore({
      folder,
      group: new RankGroup(null),
      scratchDirectory: join(root, "scratch"),
      spec,
      diskRetry: { budgetMs: 0 },
      now: () => new Date(0),
    }),
    control: new RunControl(),
    listener: deaf,
    clock: { now: () => 0, peakMemoryBytes: () => 0 },
  });
  return trainer.weight;
}

/** What has a manifest can be used: reads and checks every byte. */
async function everyCheckpointIsWhole(storage: MemoryStorage): Promise<void> {
  storage.callsLeft = Number.POSITIVE_INFINITY;
  const folder = { storage, prefix: "runs/r1/", runId: "r1", epoch: 1 };
  for (const step of await checkpointSteps(folder))
    await readCheckpoint(storage, checkpointKey(folder, step), join(root, "copy"));
}

test("whatever storage calls the power is cut at, the run ends with the weights of one that was never cut", async () => {
  const expected = await attempt(new MemoryStorage(), 1, { everySteps: 100, keepLast: 1 });
  const cut = fc.record({ afterCalls: fc.integer({ min: 1, max: 60 }), lastCallCounts: fc.boolean() });
  const checkpoint = fc.record({
    everySteps: fc.integer({ min: 1, max: 6 }),
    keepLast: fc.integer({ min: 1, max: 3 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 4 }), checkpoint, async (cuts, settings) => {
      const storage = new MemoryStorage();
      let epoch = 0;
      for (const { afterCalls, lastCallCounts } of cuts) {
        Object.assign(storage, { callsLeft: afterCalls, lastCallCounts });
        await attempt(storage, ++epoch, settings).catch((error: unknown) => {
          if (!(error instanceof PowerCut)) throw error;
        });
        await everyCheckpointIsWhole(storage);
      }
      storage.callsLeft = Number.POSITIVE_INFINITY;
      expect(await attempt(storage, ++epoch, settings)).toBe(expected);
      const steps = await checkpointSteps({ storage, prefix: "runs/r1/", runId: "r1", epoch });
      expect(steps.length).toBeLessThanOrEqual(settings.keepLast);
      expect([...storage.objects.keys()].filter((key) => key.includes("/checkpoints/"))).toHaveLength(4 * steps.length);
    }),
    { numRuns: 60, seed: 7 },
  );
});
