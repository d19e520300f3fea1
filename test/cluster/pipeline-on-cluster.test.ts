import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SweepTrial } from "@drydock/spec";
import { ClusterStage, keptSeconds } from "../chaos/cluster-stage.ts";
import { WorkerWatch } from "../chaos/worker-watch.ts";
import { until } from "../support/embedded.ts";
import { PipelineScene, expectPromoted, expectRefused, expectRolledBack } from "../support/pipeline-scene.ts";
import { RandomKills, type Moment } from "../support/random-kills.ts";
import { realNodesMissing } from "./shared-cluster.ts";

const victims = ["api", "controller"] as const;
/** Of each part of the scene; a minute on two quiet cores. */
const partMs = 600_000;

// The main scene of pipelines where trainings and evaluations are pods of real kubelets, and files lie on a real S3 server.
describe.skipIf(realNodesMissing() !== null)("on a cluster", () => {
  let stage: ClusterStage;
  let scene: PipelineScene;
  let watch: WorkerWatch;
  let kills: RandomKills;

  beforeAll(async () => {
    stage = await ClusterStage.open("pipeline");
    scene = new PipelineScene(stage.drydock, stage.scratch);
    await scene.importData();
    kills = new RandomKills(stage.drydock);
    watch = new WorkerWatch(stage.site);
    watch.start();
  });
  afterAll(async () => {
    await watch?.stop();
    await stage?.[Symbol.asyncDispose]();
  });

  const hadPod = (id: string | null): boolean => watch.epochsOf(id ?? "").length > 0;

  /** Any trial of the sweep, from its first row to its end. */
  function momentsOfTrials(sweepId: string): Moment[] {
    const stages: Readonly<Record<string, (trial: SweepTrial) => boolean>> = {
      "is started": () => true,
      "has a pod": ({ runId, steps, state }) => hadPod(runId) || steps > 0 || state !== "running",
      "has taken a step": ({ steps, state }) => steps > 0 || state !== "running",
      "has ended": ({ state }) => state !== "running",
    };
    const numbers = Array.from({ length: 8 }, (_, index) => index + 1);
    return numbers.flatMap((number) =>
      Object.entries(stages).map(([name, hasCome]) => ({
        name: `trial ${number} ${name}`,
        hasCome: async () => (await scene.trials(sweepId)).some((trial) => trial.number === number && hasCome(trial)),
      })),
    );
  }

  /** From the order of the two evaluations to the first answer. */
  function momentsOfEvaluations(number: number): Moment[] {
    const orders = async () => {
      const { results } = (await scene.retraining(number)) ?? {};
      return { ids: Object.values(results?.evaluations ?? {}), isDone: results?.done.includes("evaluate") === true };
    };
    const stateOf = async (id: string | null) =>
      (await stage.drydock.call<{ state: string }>("GET", `/v1/evaluations/${id}`)).state;
    return [
      { name: "evaluations are asked for", hasCome: async () => (await orders()).ids.length > 0 },
      {
        name: "an evaluation has a pod",
        hasCome: async () => {
          const { ids, isDone } = await orders();
          return isDone || ids.some(hadPod);
        },
      },
      {
        name: "an evaluation is done",
        hasCome: async () => {
          const { ids, isDone } = await orders();
          return isDone || (await Promise.all(ids.map(stateOf))).includes("succeeded");
        },
      },
    ];
  }

  /** Each trial and each evaluation had a pod, and none a second one, whoever was killed; three trials at a time. */
  async function expectPodsOnce(number: number): Promise<void> {
    const { results } = (await scene.retraining(number))!;
    const runIds = (await scene.trials(results.sweepId ?? "")).map(({ runId }) => runId ?? "");
    expect(new Set(runIds).size).toBe(8);
    for (const id of [...runIds, ...Object.values(results.evaluations ?? {})])
      expect(watch.epochsOf(id ?? ""), `attempts of ${id} that had a pod`).toHaveLength(1);
    expect(watch.mostAtOnce(runIds)).toBe(3);
  }

  test(
    "a first version is put into production by hand, and a pipeline is made",
    async () => {
      expect(await scene.putFirstVersionIntoProduction()).toBe("painter@1");
      await scene.createRetraining();
      expect(await scene.production()).toBe(1);
    },
    partMs,
  );

  test(
    "new data starts it: sweep, evaluation, gate and promotion, with controller and api killed at random moments",
    async () => {
      await scene.addGoodData();
      const ofTrials = momentsOfTrials(await scene.sweepOf(1));
      await Promise.all(victims.map(async (name) => await kills.strike(name, ofTrials)));
      await kills.strike(kills.choose(victims), momentsOfEvaluations(1));
      await expectPromoted(scene, 1);
      await expectPodsOnce(1);
      const weights = `models/painter/${await scene.production()}/model.safetensors`;
      expect((await stage.site.storage.head(weights))?.sizeBytes).toBeGreaterThan(100_000);
    },
    partMs,
  );

  test(
    "poisoned data is refused by the gate with the reason, and production stays",
    async () => {
      const before = await scene.production();
      await scene.addPoisonedData();
      await expectRefused(scene, 2, before);
      await expectPodsOnce(2);
    },
    partMs,
  );

  test(
    "reported answers of a promoted version get worse: it is rolled back by itself",
    async () => {
      const before = await scene.production();
      const { id } = await scene.promoteWatched();
      expect(await scene.production()).not.toBe(before);
      await kills.strike(kills.choose(victims), [{ name: "the version is watched", hasCome: async () => true }]);
      await scene.reportBadAnswers();
      await expectRolledBack(scene, id, before);
    },
    partMs,
  );

  test(
    "no pod, Job or Secret of any of it is left",
    async () => {
      const left = async (): Promise<string[]> =>
        (await stage.site.objects()).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
      const isClean = async (): Promise<true | null> => ((await left()).length === 0 ? true : null);
      await until("all objects are gone", isClean, (keptSeconds + 20) * 1000).catch(() => null);
      expect(await left()).toEqual([]);
      expect(await stage.site.processes()).toEqual([]);
      expect((await watch.stop()).doubles).toEqual([]);
    },
    partMs,
  );
});
