import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { Model, PipelineEvent, PipelineRun, Sweep, SweepTrial } from "@drydock/spec";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { until, type Embedded } from "./embedded.ts";

const importOptions = { format: "openai-jsonl", task: "vqa", validationShare: 0.3 };
/** A sweep of eight trials, its evaluations and what follows: most of a minute on two quiet cores. */
const runWithinMs = 300_000;

/** Steps of the pipeline that new data starts. */
export const retrainingSteps = ["validate", "sweep", "evaluate", "gate", "promote"] as const;

/**
 * The main scene of pipelines: new data is swept over, held against production, and promoted; poisoned data is refused; what
 * turns out worse in use is rolled back. Here is what it needs wherever it is played: a tiny model that learns three colours.
 */
export class PipelineScene {
  readonly #drydock: Embedded;
  readonly #folder: string;

  /** @param folder  gets the model and the pictures */
  constructor(drydock: Embedded, folder: string) {
    this.#drydock = drydock;
    this.#folder = folder;
  }

  /** Imports `shades`, which gets new versions, and `trusted`, which stays as it is. */
  async importData(): Promise<void> {
    await createTinyModel(join(this.#folder, "model"));
    await createTinyData(this.#good, 60);
    await createTinyData(this.#poisoned, 60);
    const poisoned = join(this.#poisoned, "data.jsonl");
    const text = await readFile(poisoned, "utf8");
    // Every picture is said to be green.
    await writeFile(poisoned, text.replaceAll(/"content":"(red|blue)"/g, '"content":"green"'));
    await this.#drydock.importFolder("shades", this.#good, importOptions);
    await this.#drydock.importFolder("trusted", this.#good, importOptions);
  }

  /** Trains a first version, which knows next to nothing, and puts it into production; answers its name. */
  async putFirstVersionIntoProduction(): Promise<string | null> {
    const spec = { ...this.#template, dataset: "shades@1", training: barelyTrained };
    const { id } = await this.#drydock.call<{ id: string }>("POST", "/v1/runs", spec);
    const { model } = await this.#drydock.runIn(id, ["succeeded", "failed"]);
    await this.#drydock.call("POST", "/v1/models/painter/versions/1/stage", { to: "production" });
    return model;
  }

  /** The pipeline `shades`, which every new version of its data set starts. */
  async createRetraining(): Promise<void> {
    const sweep = {
      name: "rates",
      run: this.#template,
      space: { "training.learningRate": { type: "log", low: 1e-4, high: 3e-2 } },
      search: { kind: "asha", trials: 8, seed: 2, minSteps: 10, maxSteps: 90, reductionFactor: 3 },
      metric: "loss",
      maxParallel: 3,
    };
    const rules = ["candidate.exact-match >= production.exact-match with significance 0.05"];
    await this.#drydock.call("POST", "/v1/pipelines", {
      name: "shades",
      dataset: "shades",
      steps: [
        { type: "validate" },
        { type: "sweep", sweep },
        { type: "evaluate", dataset: "trusted@1", metrics: ["exact-match"] },
        { type: "gate", rules },
        { type: "promote" },
      ],
      triggers: [{ type: "dataset" }],
    });
  }

  async addGoodData(): Promise<void> {
    await this.#drydock.importVersion("shades", this.#good, importOptions);
  }

  async addPoisonedData(): Promise<void> {
    await this.#drydock.importVersion("shades", this.#poisoned, importOptions);
  }

  /** Starts a pipeline that promotes a bad version unseen; answers its run once that version is in production and watched. */
  async promoteWatched(): Promise<PipelineRun> {
    const watch = { type: "watch", metric: "exact-match", minimum: 50, windowSeconds: 3600, minimumSamples: 20 };
    const run = { ...this.#template, training: barelyTrained };
    await this.#drydock.call("POST", "/v1/pipelines", {
      name: "watched",
      dataset: "trusted",
      steps: [{ type: "train", run }, { type: "promote" }, watch],
    });
    const { id } = await this.#drydock.call<PipelineRun>("POST", "/v1/pipelines/watched/trigger", {});
    return await until("it is watched", async () => {
      const found = await this.find(id);
      return found?.step === "watch" ? found : null;
    });
  }

  /** A third of thirty answers that are reported is right. */
  async reportBadAnswers(): Promise<void> {
    const observations = Array.from({ length: 30 }, (_, index) => ({
      key: `camera-${index}`,
      time: new Date().toISOString(),
      answer: index < 10 ? "red" : "?",
      truth: "red",
    }));
    await this.#drydock.call("POST", "/v1/models/painter/observations", { observations });
  }

  /** Version of `painter@production`. */
  async production(): Promise<number> {
    return (await this.#drydock.call<Model>("GET", "/v1/models/painter/versions/production")).version;
  }

  /** A run of a pipeline; null while the server is away. */
  async find(id: string): Promise<PipelineRun | null> {
    return await this.#drydock.call<PipelineRun>("GET", `/v1/pipeline-runs/${id}`).catch(() => null);
  }

  /** A run of `shades`; null before it is there, or while the server is away. */
  async retraining(number: number): Promise<PipelineRun | null> {
    const runs = await this.#drydock
      .call<{ items: PipelineRun[] }>("GET", "/v1/pipelines/shades/runs")
      .catch(() => ({ items: [] }));
    return runs.items.find((run) => run.number === number) ?? null;
  }

  async retrainingEnded(number: number): Promise<PipelineRun> {
    return await until(
      `run ${number} of the pipeline is over`,
      async () => endedOrNull(await this.retraining(number)),
      runWithinMs,
    );
  }

  async ended(id: string): Promise<PipelineRun> {
    return await until(`run ${id} of a pipeline is over`, async () => endedOrNull(await this.find(id)));
  }

  /** The sweep of a run of `shades`, once there is one. */
  async sweepOf(number: number): Promise<string> {
    return await until("the sweep has started", async () => (await this.retraining(number))?.results.sweepId ?? null);
  }

  async sweep(id: string): Promise<Sweep> {
    return await this.#drydock.call<Sweep>("GET", `/v1/sweeps/${id}`);
  }

  async trials(sweepId: string): Promise<SweepTrial[]> {
    return (await this.#drydock.call<{ items: SweepTrial[] }>("GET", `/v1/sweeps/${sweepId}/trials`)).items;
  }

  async timeline(id: string): Promise<PipelineEvent[]> {
    const path = `/v1/pipeline-runs/${id}/timeline`;
    return (await this.#drydock.call<{ items: PipelineEvent[] }>("GET", path)).items;
  }

  get #good(): string {
    return join(this.#folder, "good");
  }

  get #poisoned(): string {
    return join(this.#folder, "poisoned");
  }

  get #template(): object {
    return {
      name: "painter",
      model: { uri: join(this.#folder, "model") },
      mode: "full",
      task: "vqa",
      allowSmall: true,
      training: { globalBatchSize: 16 },
      evaluation: { before: false, maxNewTokens: 8 },
    };
  }
}

const barelyTrained = { globalBatchSize: 16, maxSteps: 1, learningRate: 1e-6 };

function endedOrNull(run: PipelineRun | null): PipelineRun | null {
  return run === null || run.endedAt === null ? null : run;
}

/** Lines of a timeline: steps that were done, then the one at which it ended, if it ended at one. */
export function linesOf(done: readonly string[], endedAt?: string): string[] {
  return [
    "triggered",
    ...done.flatMap((step) => [`step.started ${step}`, `step.done ${step}`]),
    ...(endedAt === undefined ? [] : [`step.started ${endedAt}`]),
    "ended",
  ];
}

/** The timeline has these lines and no others: none is missing, none is there twice, and they are numbered without a gap. */
export async function expectTimeline(scene: PipelineScene, id: string, lines: readonly string[]): Promise<void> {
  const events = await scene.timeline(id);
  expect(events.map(({ type, step }) => (step === null ? type : `${type} ${step}`))).toEqual(lines);
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
}

/** The new version passed the gate and is in production, and the sweep was whole. */
export async function expectPromoted(scene: PipelineScene, number: number): Promise<void> {
  const run = await scene.retrainingEnded(number);
  expect(run).toMatchObject({ state: "succeeded", trigger: { type: "dataset", detail: "shades@2 is ready" } });
  expect(run.results.gate).toMatchObject({ passed: true });
  expect(run.message).toBe(`${run.results.candidate} is in production`);
  expect(`painter@${await scene.production()}`).toBe(run.results.candidate);
  expect(await scene.sweep(run.results.sweepId ?? "")).toMatchObject({
    state: "succeeded",
    trials: { started: 8, running: 0, failed: 0 },
    parent: { kind: "pipeline", id: run.id, part: "sweep" },
    best: { model: run.results.candidate },
  });
  await expectTimeline(scene, run.id, linesOf(retrainingSteps));
}

/** The gate refused the candidate with the rule and the number, and production is as it was. */
export async function expectRefused(scene: PipelineScene, number: number, production: number): Promise<void> {
  const run = await scene.retrainingEnded(number);
  expect(run.state).toBe("refused");
  expect(run.message).toMatch(
    /^the gate refused painter@\d+: candidate\.exact-match is [\d.]+, production's is [\d.]+ \(\d+ rows\): it must be at least [\d.]+$/,
  );
  expect(run.results.gate).toMatchObject({
    passed: false,
    results: [{ rule: "candidate.exact-match >= production.exact-match with significance 0.05", passed: false }],
  });
  expect(await scene.production()).toBe(production);
  await expectTimeline(scene, run.id, linesOf(["validate", "sweep", "evaluate"], "gate"));
}

/** The version before is in production again, by the run's own doing. */
export async function expectRolledBack(scene: PipelineScene, id: string, before: number): Promise<void> {
  const run = await scene.ended(id);
  expect(run).toMatchObject({ state: "rolled-back" });
  expect(run.message).toBe(
    `live exact-match of ${run.results.candidate} fell to 33.33 on 30 answers, below 50: painter@${before} is in production again`,
  );
  expect(await scene.production()).toBe(before);
  await expectTimeline(scene, id, linesOf(["train", "promote"], "watch"));
}
