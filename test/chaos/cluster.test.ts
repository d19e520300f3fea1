import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { kill } from "../support/embedded.ts";
import { ClusterStage } from "./cluster-stage.ts";
import type { Findings } from "./invariants.ts";
import { Scene } from "./scene.ts";
import { report } from "./trial.ts";

/** Of one scene, all its faults and runs. */
const sceneMs = 240_000;

let stage: ClusterStage;
const all: Findings[] = [];

beforeAll(async () => {
  stage = await ClusterStage.open();
});
afterAll(async () => {
  await stage[Symbol.asyncDispose]();
  await report("cluster", "Chaos on a cluster", all);
});

test(
  "every invariant holds when servers of Drydock are killed",
  async () => {
    const scene = new Scene(stage, "servers of drydock", all);
    const run = await scene.submit({ ranks: 2, steps: 80 });
    await scene.strike("kill -9 api", run, async () => await stage.killProcess("api"));
    await scene.strike("kill -9 Temporal", run, async () => await stage.killProcess("temporal"));
    await scene.strike("kill -9 storage, back after 2 s", run, async () => {
      await stage.store.kill();
      await delay(2000);
      await stage.store.up();
    });
    await scene.strike("kill -9 controller", run, async () => await stage.killProcess("controller"));
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);

test(
  "every invariant holds when a worker is killed",
  async () => {
    const scene = new Scene(stage, "workers", all);
    const run = await scene.submit({ ranks: 2, steps: 20 });
    await scene.strike("kill -9 worker", run, async () => {
      const [victim] = (await stage.site.processes()).filter(({ runId, rank }) => runId === run.id && rank === 1);
      kill(victim?.pid ?? 0);
    });
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);
