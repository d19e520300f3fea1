import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { until } from "../support/embedded.ts";
import type { ClusterStage } from "./cluster-stage.ts";
import { FalseClock } from "./false-clock.ts";
import type { Scene } from "./scene.ts";
import type { Submitted } from "./trial.ts";
import { anotherLeads, leaderOf, leaseOf, SecondController } from "./second-controller.ts";

/** One controller waits while the other leads; each takes over from the other once, and in between the leader's clock goes wrong. */
export async function playTwoControllers(scene: Scene): Promise<readonly string[]> {
  const { stage } = scene;
  const clock = await FalseClock.create(stage.scratch);
  const { ports } = await stage.settings();
  const run = async (): Promise<Submitted> => await scene.inTraining({ ranks: 1, steps: 150 });
  const first = await leaderOf(stage);
  const second = await SecondController.start(stage, clock.environment);
  try {
    await scene.strike("two controllers at once", await run(), async () => {
      await delay(3000);
      expect([await leaderOf(stage), await second.leads()]).toEqual([first, false]);
    });
    await scene.strike("the leader stands still for longer than its lease, then goes on", await run(), async () => {
      const { controller = 0 } = await stage.drydock.processes();
      process.kill(controller, "SIGSTOP");
      const next = await anotherLeads(stage, first);
      await until("the second controller serves", async () => ((await second.leads()) ? true : null));
      stage.door.leadTo(second.host, second.port);
      process.kill(controller, "SIGCONT");
      await until("the first one has ended itself", async () =>
        (await stage.drydock.processes())["controller"] === controller ? null : true,
      );
      expect(await leaderOf(stage)).toBe(next);
    });
    for (const [how, seconds] of [
      ["an hour ahead", 3600],
      ["two hours back", -3600],
    ] as const)
      await scene.strike(`the leader's clock jumps ${how}`, await run(), async () => {
        await clock.jump(seconds);
        await until("the leader writes wrong times", async () => ((await isOffBy(stage, seconds)) ? true : null));
      });
    await scene.strike("the leader is asked to end, the other takes over", await run(), async () => {
      const last = await leaderOf(stage);
      await second.stop();
      await anotherLeads(stage, last);
      stage.door.leadTo(stage.cluster.hostAddress, ports.controller);
    });
  } finally {
    await second.stop();
    stage.door.leadTo(stage.cluster.hostAddress, ports.controller);
  }
  return await scene.end();
}

/** Whether the newest sign of the leader's life is dated by such a clock. */
async function isOffBy(stage: ClusterStage, seconds: number): Promise<boolean> {
  const { renewTime = "" } = await leaseOf(stage);
  return Math.abs(Date.parse(renewTime) - Date.now() - seconds * 1000) < 60_000;
}
