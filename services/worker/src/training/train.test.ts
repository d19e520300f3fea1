import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage, sha256 } from "@drydock/kit";
import { RunSpec } from "@drydock/spec";
import { CountingRows, ToyTrainer } from "../../test/toy-engine.ts";
import { CheckpointStore } from "../checkpoint/checkpoint-store.ts";
import { readCheckpoint } from "../checkpoint/read-checkpoint.ts";
import { checkpointSteps, type RunFolder } from "../checkpoint/run-folder.ts";
import type { EvaluationPhase, Evaluator } from "../evaluation/evaluator.ts";
import { RankGroup } from "../ranks/rank-group.ts";
import { RunControl } from "./run-control.ts";
import { train, type TrainingOutcome, type TrainingRun } from "./train.ts";
import type { StepReport, TrainingListener } from "./training-listener.ts";
import { nothingUntold, type Untold } from "./untold.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-train-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const aStep = { loss: 1, learningRate: 1e-3, gradientNorm: 1, tokens: 7, seconds: 1, memoryBytes: 1, epoch: 0.2 };

class Listener implements TrainingListener {
  readonly steps: StepReport[] = [];
  readonly heard: string[] = [];
  readonly retold: Untold[] = [];
  afterStep: ((step: number) => void) | null = null;
  untold = (): Untold => nothingUntold;

  phaseChanged(): void {}
  stepFinished(report: StepReport): void {
    this.steps.push(report);
    this.afterStep?.(report.step);
  }
  checkpointSaved({ step }: { step: number }, isBest: boolean): void {
    this.heard.push(`saved ${step}${isBest ? " as the best" : ""}`);
  }
  evaluationFinished({ phase, step }: { phase: string; step: number }): void {
    this.heard.push(`evaluated ${phase} at ${step}`);
  }
  retell(untold: Untold): void {
    this.retold.push(untold);
  }
  log(level: string, message: string): void {
    this.heard.push(`${level}: ${message}`);
  }
}

function evaluatorOf(scoreAt: (step: number) => number): Evaluator {
  return {
    evaluate: async (_model, _phase: EvaluationPhase, step, signal) =>
      signal.aborted
        ? null
        : {
            scores: { "exact-match": scoreAt(step) },
            headline: { metric: "exact-match", score: scoreAt(step) },
            samples: 1,
            seconds: 0,
            resultsKey: `r${step}`,
          },
  };
}

interface Setting {
  id?: string;
  warmStart?: RunSpec["warmStart"];
  epoch?: number;
  checkpoint?: Partial<RunSpec["checkpoint"]>;
  evaluation?: Partial<RunSpec["evaluation"]>;
  evaluator?: Evaluator | null;
  trainer?: ToyTrainer;
}

function aRun({
  id = "r1",
  warmStart,
  epoch = 1,
  checkpoint = {},
  evaluation = {},
  evaluator = null,
  trainer = new ToyTrainer(),
}: Setting = {}) {
  const spec = RunSpec.parse({
    name: "toy",
    model: "toy",
    dataset: "toy@1",
    task: "vqa",
    checkpoint: { everySteps: 5, ...checkpoint },
    evaluation,
    warmStart,
  });
  const folder: RunFolder = { storage, prefix: `runs/${id}/`, runId: id, epoch };
  const control = new RunControl();
  const listener = new Listener();
  let nowMs = 0;
  const run: TrainingRun = {
    spec,
    totalSteps: 20,
    trainer,
    rows: new CountingRows(),
    evaluator,
    checkpoints: new CheckpointStore({
      folder,
      group: new RankGroup(null),
      scratchDirectory: join(root, `scratch-${epoch}`),
      spec,
      diskRetry: { budgetMs: 0 },
      now: () => new Date(0),
    }),
    control,
    listener,
    clock: { now: () => (nowMs += 1000), peakMemoryBytes: () => 123 },
  };
  return { run, trainer, control, listener, folder, finish: async (): Promise<TrainingOutcome> => await train(run) };
}

async function weightOf(...parameters: Parameters<typeof aRun>): Promise<number> {
  const { finish, trainer } = aRun(...parameters);
  expect((await finish()).kind).toBe("finished");
  return trainer.weight;
}

test("a run takes every step once and saves when it is due and at the end", async () => {
  const { finish, listener, folder } = aRun({ checkpoint: { everySteps: 8, keepLast: 10 } });
  expect(await finish()).toMatchObject({ kind: "finished", state: { step: 20, rows: 40, tokens: 280 } });
  expect(listener.steps.map(({ step }) => step)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
  expect(listener.steps[9]).toMatchObject({ epoch: 2, seconds: 1, memoryBytes: 123, tokens: 14 });
  expect(await checkpointSteps(folder)).toEqual([20, 16, 8]);
});

test.each([1, 4, 5, 6, 13, 19])(
  "a run that dies after step %i and is resumed ends with the weights of one that never died",
  async (deathAt) => {
    const dying = aRun({ epoch: 1 });
    dying.listener.afterStep = (step) => {
      if (step === deathAt) throw new Error("killed");
    };
    await expect(dying.finish()).rejects.toThrow("killed");
    const resumed = await weightOf({ epoch: 2 });
    storage = new FolderStorage(join(root, "other"));
    expect(resumed).toBe(await weightOf());
  },
);

test("steps that nobody has heard of go with the checkpoint, and the next attempt tells them", async () => {
  const dying = aRun({ epoch: 1 });
  const told = { ...nothingUntold, steps: [{ ...aStep, step: 4, timeMs: 0, attempt: 1 }] };
  dying.listener.untold = () => told;
  dying.listener.afterStep = (step) => {
    if (step === 7) throw new Error("killed");
  };
  await expect(dying.finish()).rejects.toThrow("killed");
  const resumed = aRun({ epoch: 2 });
  await resumed.finish();
  expect(resumed.listener.retold).toEqual([told]);
});

test("a run that is stopped saves, and goes on from that very step", async () => {
  const first = aRun({ epoch: 1 });
  first.listener.afterStep = (step) => {
    if (step === 7) first.control.ask("stop", 143);
  };
  expect(await first.finish()).toMatchObject({ kind: "stopped", state: { step: 7 } });
  const second = aRun({ epoch: 2 });
  await second.finish();
  expect(second.listener.heard[0]).toBe("info: resumed after step 7");
  expect(second.listener.steps[0]?.step).toBe(8);
  storage = new FolderStorage(join(root, "other"));
  expect(second.trainer.weight).toBe(await weightOf());
});

test("an aborted run saves nothing", async () => {
  const { finish, listener, control, folder } = aRun();
  listener.afterStep = (step) => {
    if (step === 3) control.ask("abort", 130);
  };
  expect(await finish()).toMatchObject({ kind: "aborted" });
  expect(await checkpointSteps(folder)).toEqual([]);
});

test("a checkpoint that was asked for is saved after the step", async () => {
  const { finish, listener, control } = aRun();
  listener.afterStep = (step) => {
    if (step === 3) control.askForCheckpoint();
  };
  await finish();
  expect(listener.heard.slice(0, 2)).toEqual(["saved 3", "saved 5"]);
});

test("evaluation comes before, when due, and after; the best step is saved and kept", async () => {
  const { finish, listener, folder } = aRun({
    checkpoint: { everySteps: 5, keepLast: 1 },
    evaluation: { everySteps: 4 },
    evaluator: evaluatorOf((step) => (step === 8 ? 90 : step)),
  });
  const outcome = await finish();
  expect(listener.heard.filter((text) => text.startsWith("evaluated"))).toEqual([
    "evaluated before at 0",
    "evaluated during at 4",
    "evaluated during at 8",
    "evaluated during at 12",
    "evaluated during at 16",
    "evaluated after at 20",
  ]);
  expect(listener.heard).toContain("saved 8 as the best");
  expect(await checkpointSteps(folder)).toEqual([20, 8]);
  expect(outcome).toMatchObject({
    state: { before: { "exact-match": 0 }, best: { step: 8, metric: "exact-match", score: 90 } },
    after: { scores: { "exact-match": 20 } },
  });
});

test("the base is not evaluated again after a resume", async () => {
  const first = aRun({ epoch: 1, evaluator: evaluatorOf(() => 10) });
  first.listener.afterStep = (step) => {
    if (step === 7) first.control.ask("stop", 143);
  };
  await first.finish();
  const second = aRun({ epoch: 2, evaluator: evaluatorOf(() => 50) });
  expect(await second.finish()).toMatchObject({ kind: "finished", state: { before: { "exact-match": 10 } } });
  expect(second.listener.heard.filter((text) => text.startsWith("evaluated"))).toEqual(["evaluated after at 20"]);
});

test("a run that dies in its last evaluation resumes there", async () => {
  const dying = aRun({
    epoch: 1,
    evaluator: { evaluate: async () => await Promise.reject(new Error("killed")) },
    evaluation: { before: false },
  });
  await expect(dying.finish()).rejects.toThrow("killed");
  const resumed = aRun({ epoch: 2, evaluator: evaluatorOf(() => 50), evaluation: { before: false } });
  expect(await resumed.finish()).toMatchObject({ kind: "finished", after: { scores: { "exact-match": 50 } } });
  expect(resumed.listener.steps).toEqual([]);
});

test("a damaged newest checkpoint costs steps, not the result", async () => {
  const first = aRun({ epoch: 1 });
  first.listener.afterStep = (step) => {
    if (step === 12) throw new Error("killed");
  };
  await expect(first.finish()).rejects.toThrow("killed");
  await storage.put("runs/r1/checkpoints/step-00000010/optimizer-0.safetensors", Buffer.alloc(8));
  const second = aRun({ epoch: 2 });
  await second.finish();
  expect(second.listener.heard[0]).toMatch(
    /^warn: checkpoint runs\/r1\/checkpoints\/step-00000010 cannot be used: file optimizer-0\.safetensors is damaged/,
  );
  expect(second.listener.steps[0]?.step).toBe(6);
  storage = new FolderStorage(join(root, "other"));
  expect(second.trainer.weight).toBe(await weightOf());
});

test("a loss that is not finite three times in a row stops the run, and the weights gone bad are not saved", async () => {
  const trainer = new ToyTrainer();
  trainer.losses = (step) => (step >= 10 ? Number.NaN : 1);
  const { finish, folder } = aRun({ trainer });
  await expect(finish()).rejects.toMatchObject({
    code: "diverged",
    message: expect.stringMatching(
      /^the loss or its gradient was not finite for 3 steps in a row, up to step 12, at a learning rate of 0.0001/,
    ),
  });
  expect(await checkpointSteps(folder)).toEqual([5]);
});

test("a run whose last step is not finite is not published as if nothing had happened", async () => {
  const trainer = new ToyTrainer();
  trainer.losses = (step) => (step === 20 ? Number.NaN : 1);
  await expect(aRun({ trainer }).finish()).rejects.toMatchObject({
    code: "diverged",
    message: expect.stringContaining("for 1 step in a row, up to step 20"),
  });
});

test("one loss that is not finite is ridden out", async () => {
  const trainer = new ToyTrainer();
  trainer.losses = (step) => (step === 11 ? Number.POSITIVE_INFINITY : 1);
  expect(await aRun({ trainer }).finish()).toMatchObject({ kind: "finished", state: { nonFiniteLosses: 0 } });
});

test("a run begins with the weights of another's checkpoint alone, and knows it after a resume too", async () => {
  const source = aRun();
  await source.finish();
  const warmStart = { run: "r1", step: 10 };
  const fresh = new ToyTrainer();
  await fresh.startFrom(await copyOf("runs/r1/checkpoints/step-00000010"));
  const begun = aRun({ id: "r2", warmStart, checkpoint: { everySteps: 3 } });
  begun.listener.afterStep = (step) => {
    if (step === 1) begun.control.ask("stop", 143);
  };
  await begun.finish();
  await fresh.step([{ rowId: "0" }, { rowId: "1" }] as never, 1);
  expect(begun.listener.heard[0]).toBe("info: begins with the weights of run r1 after step 10");
  expect(begun.trainer.weight).toBe(fresh.weight);
  const outcome = await aRun({ id: "r2", epoch: 2, warmStart }).finish();
  const manifest = await storage.get("runs/r1/checkpoints/step-00000010/manifest.json");
  expect(outcome.state.warmStart).toEqual({ runId: "r1", step: 10, manifestSha256: sha256(manifest) });
});

test("a checkpoint to begin from that is gone or damaged ends the run, naming it", async () => {
  await aRun().finish();
  await expect(aRun({ id: "r2", warmStart: { run: "r1", step: 7 } }).finish()).rejects.toThrow(
    "checkpoint runs/r1/checkpoints/step-00000007 cannot be used: it has no manifest.json",
  );
  await storage.put("runs/r1/checkpoints/step-00000010/adapter_model.safetensors", new Uint8Array(8));
  await expect(aRun({ id: "r3", warmStart: { run: "r1", step: 10 } }).finish()).rejects.toThrow(
    "file adapter_model.safetensors is damaged",
  );
});

async function copyOf(key: string): Promise<string> {
  return (await readCheckpoint(storage, key, join(root, "copy"))).directory;
}
