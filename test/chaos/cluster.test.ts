import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { kill, until } from "../support/embedded.ts";
import { startsOfActivity } from "./ask-temporal.ts";
import { ClusterStage, keptSeconds } from "./cluster-stage.ts";
import type { Findings } from "./invariants.ts";
import { LostGang } from "./lost-gang.ts";
import { cordon, drain, kubeletOf, nodeIs, nodeOf } from "./real-node-faults.ts";
import { play, type Scene } from "./scene.ts";
import { playTwoControllers } from "./two-controllers.ts";
import { report, type Submitted } from "./trial.ts";

/** Of one scene, all its faults and runs; a minute on a quiet computer. */
const sceneMs = 600_000;
/** A cancelled run has no pod after its grace and so long (invariant 7). */
const cancelledWithinMs = 68_000;

let stage: ClusterStage;
let lostGang: LostGang;
const all: Findings[] = [];

beforeAll(async () => {
  stage = await ClusterStage.open("chaos");
  await stage.importColours();
  lostGang = await LostGang.begin(stage, all);
});
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
  await report("cluster", "Chaos on a cluster", all);
});

function scene(name: string, script: (scene: Scene) => Promise<readonly string[]>): void {
  test(`every invariant holds: ${name}`, async () => expect(await play(stage, all, name, script)).toEqual([]), sceneMs);
}

scene("a worker is killed, its reports arrive twice, and long after", async (scene) => {
  const run = await scene.submit({ ranks: 2, steps: 60 });
  const other = await scene.submit({ ranks: 1, steps: 40 });
  const undoubled = stage.door.deliverTwice();
  const killed = await scene.strike("kill -9 worker", run, async () => {
    const ranks = (await stage.site.processes()).filter(({ runId }) => runId === run.id);
    kill(ranks.find(({ rank }) => rank === 1)?.pid ?? 0);
  });
  await scene.strike("reports of an earlier attempt are delivered again", run, async () => {
    return await stage.door.replay(run.id, 1);
  });
  scene.findings("every report is delivered twice").times = undoubled();
  await scene.expectUndisturbed(other, killed);
  return await scene.end();
});

scene("servers of Drydock are killed", async (scene) => {
  const { controller = 0, temporal = 0 } = await stage.drydock.processes();
  const run = async (): Promise<Submitted> => await scene.inTraining({ ranks: 2, steps: 100 });
  await scene.strike("kill -9 api", await run(), async () => await stage.killProcess("api"));
  const watched = await run();
  await scene.strike(
    "kill -9 Temporal, back after 18 s: it starts the activity of the run again",
    watched,
    async () => {
      // Whoever would start it again stands still; so do the workers, or the run might be over before. At last the controller,
      // too: if it said that the activity lives before Temporal looks, there would be no need to start it again.
      const workers = (await stage.site.processes()).filter(({ runId }) => runId === watched.id);
      const still = [stage.drydock.pid, ...workers.map(({ pid }) => pid)];
      for (const pid of still) process.kill(pid, "SIGSTOP");
      kill(temporal);
      await delay(18_000);
      process.kill(controller, "SIGSTOP");
      process.kill(stage.drydock.pid, "SIGCONT");
      const isStartedAgain = async (): Promise<true | null> =>
        (await startsOfActivity(stage.drydock, watched.id).catch(() => 0)) > 1 ? true : null;
      await until("the activity is started again", isStartedAgain).finally(() => {
        for (const pid of [controller, ...workers.map(({ pid }) => pid)]) process.kill(pid, "SIGCONT");
      });
    },
  );
  await scene.strike("kill -9 Temporal", await run(), async () => await stage.killProcess("temporal"));
  await scene.strike("kill -9 storage, back after 2 s", await run(), async () => {
    await stage.store.kill();
    await delay(2000);
    await stage.store.up();
  });
  await scene.strike("kill -9 controller", await run(), async () => await stage.killProcess("controller"));
  return await scene.end();
});

scene("servers of Kubernetes are killed", async (scene) => {
  const { cluster } = stage;
  const run = async (): Promise<Submitted> => await scene.inTraining({ ranks: 1, steps: 150 });
  await scene.strike("kill -9 API server, back after 2 s", await run(), async () => {
    await cluster.component("apiserver").kill9();
    await scene.submit({ ranks: 1, steps: 100 });
    await delay(2000);
    await cluster.component("apiserver").start();
  });
  await scene.strike("kill -9 etcd", await run(), async () => {
    await cluster.component("etcd").kill9();
    await cluster.component("etcd").start();
  });
  const served = await run();
  await scene.strike("kill -9 kubelet", served, async () => {
    const node = await nodeOfRun(served);
    await cluster.component(kubeletOf(node)).kill9();
    await cluster.component(kubeletOf(node)).start();
  });
  return await scene.end();
});

scene("answers of the API server fail", async (scene) => {
  const { proxy } = stage;
  const creates = (method: string): boolean => method === "POST";
  const busy = proxy.begin({ kind: "status", status: 429, retryAfterSeconds: 1 }, { matches: creates, most: 3 });
  await scene.submit({ ranks: 1, steps: 100 });
  await until("three creates are refused", async () => (busy.count() === 3 ? true : null));
  busy.end();
  scene.findings("429 with Retry-After while pods are created").times = busy.count();
  const lost = proxy.begin({ kind: "answer-lost" }, { matches: creates, most: 2 });
  await scene.submit({ ranks: 1, steps: 150 });
  await until("two answers are lost", async () => (lost.count() === 2 ? true : null));
  lost.end();
  scene.findings("answers to creates are lost").times = lost.count();
  const run = async (): Promise<Submitted> => await scene.inTraining({ ranks: 1, steps: 100 });
  await scene.strike("watches are cut", await run(), async () => {
    let count = 0;
    for (let times = 0; times < 3; times++) {
      count += proxy.cutWatches();
      await delay(500);
    }
    return count;
  });
  for (const how of ["event", "status"] as const)
    await scene.strike(
      `watches are answered with 410 by their ${how === "event" ? "stream" : "status"}`,
      await run(),
      async () => {
        const gone = proxy.begin({ kind: "gone", how }, { matches: () => true, most: 4 });
        proxy.cutWatches();
        await until("four watches were told that they are too old", async () => (gone.count() === 4 ? true : null));
        gone.end();
        return gone.count();
      },
    );
  const failing = proxy.begin({ kind: "status", status: 500 }, { matches: () => true, most: 20 });
  await scene.strike("500 to whatever is asked", await run(), async () => {
    proxy.cutWatches();
    await until("calls have failed", async () => (failing.count() === 20 ? true : null));
    failing.end();
    return failing.count();
  });
  const slowness = scene.findings("every answer 1.5 s late, until the runs have ended");
  const slow = proxy.begin({ kind: "slow", milliseconds: 1500 }, { matches: () => true });
  const violations = await scene.end();
  slow.end();
  slowness.times = slow.count();
  return violations;
});

scene("nodes are cut off and drained", async (scene) => {
  const { cluster, namespace, drydock } = stage;
  const [first = "", second = ""] = cluster.connection.realNodes;
  await cordon(cluster, second, true);
  const run = await scene.submit({ ranks: 1, steps: 120 });
  // Done before its node counts as lost, on a busy computer too.
  const quick = await scene.submit({ ranks: 1, steps: 40 });
  await drydock.runAtStep(quick.id, 1);
  const cut = await scene.strike("node not ready: its kubelet is gone, and the worker stands still", run, async () => {
    await cordon(cluster, second, false);
    const { attempts } = await drydock.run(run.id);
    const frozen = (await stage.site.processes()).filter(({ runId }) => runId === run.id);
    scene.cutOff.add(first);
    await cluster.component(kubeletOf(first)).kill9();
    try {
      for (const { pid } of frozen) process.kill(pid, "SIGSTOP");
      await nodeIs(cluster, first, false);
      await until("the next attempt trains", async () => {
        const { attempts: now, state } = await drydock.run(run.id);
        return now.length > attempts.length && state === "running" ? true : null;
      });
      // It is done while its kubelet is away: nobody but itself can say so.
      await drydock.runIn(quick.id, ["succeeded", "failed"]);
    } finally {
      // The node comes back, and its worker goes on as if nothing had been.
      for (const { pid } of frozen) process.kill(pid, "SIGCONT");
      await cluster.component(kubeletOf(first)).start();
      await nodeIs(cluster, first, true);
    }
  });
  await until("workers of the node that was cut off are gone", async () =>
    (await stage.site.liveWorkers()).some(({ node }) => node === first) ? null : true,
  );
  scene.cutOff.delete(first);
  await scene.strike("node drained", run, async () => {
    const node = await nodeOfRun(run);
    const { attempts } = await drydock.run(run.id);
    try {
      await drain(cluster, node, namespace);
      await until("the next attempt runs", async () =>
        (await drydock.run(run.id)).attempts.length > attempts.length ? true : null,
      );
    } finally {
      await cordon(cluster, node, false);
    }
  });
  await scene.expectUndisturbed(quick, cut);
  return await scene.end();
});

scene("two controllers, one that stands still, a clock that jumps", playTwoControllers);

scene("a cancel is lost with the controller", async (scene) => {
  const run = await scene.submit({ ranks: 2, steps: 600 });
  const findings = scene.findings("cancel, then kill -9 controller");
  await stage.drydock.runAtStep(run.id, 5);
  await stage.drydock.call("POST", `/v1/runs/${run.id}/cancel`);
  await stage.killProcess("controller");
  const over = await stage.drydock.runIn(run.id, ["succeeded", "failed", "cancelled"]);
  findings.expect(7, over.state === "cancelled", `the cancelled run is ${over.state}`);
  const isGone = await until(
    "no pod remains",
    async () => ((await stage.site.leftovers([run.id])).length === 0 ? true : null),
    cancelledWithinMs,
  ).catch(() => false);
  findings.expect(7, isGone, "a pod of the cancelled run lives beyond its time");
  await run.again(findings);
  return await scene.end("cancelled");
});

test(
  "every invariant holds: the node of a gang is deleted",
  async () => {
    expect(await lostGang.end()).toEqual([]);
  },
  sceneMs,
);

test("nothing of any run is left once its time is up", async () => {
  const left = async (): Promise<string[]> =>
    (await stage.site.objects()).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
  await until(
    "all objects are gone",
    async () => ((await left()).length === 0 ? true : null),
    (keptSeconds + 20) * 1000,
  ).catch(() => null);
  expect(await left()).toEqual([]);
}, 120_000);

/** Node of the pod of a run's newest attempt. */
async function nodeOfRun({ id }: Submitted): Promise<string> {
  const { attempts } = await stage.drydock.run(id);
  const pods = await stage.site.pods(id);
  const newest = pods.find(({ metadata }) => metadata.labels?.["drydock.dev/epoch"] === String(attempts.length));
  if (!newest) throw new Error(`run ${id} has no pod of attempt ${attempts.length}`);
  return nodeOf(newest);
}
