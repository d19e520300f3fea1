import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { kill, until } from "../support/embedded.ts";
import { ClusterStage } from "./cluster-stage.ts";
import { FalseClock } from "./false-clock.ts";
import { Findings } from "./invariants.ts";
import { cordon, deleteNode, drain, kubeletOf, nodeIs, nodeOf } from "./real-node-faults.ts";
import { Scene } from "./scene.ts";
import { anotherLeads, leaderOf, SecondController } from "./second-controller.ts";
import { report } from "./trial.ts";

/** Of one scene, all its faults and runs. */
const sceneMs = 240_000;
/** A cancelled run has no pod after its grace and so long (invariant 7). */
const cancelledWithinMs = 68_000;

let stage: ClusterStage;
const all: Findings[] = [];

beforeAll(async () => {
  stage = await ClusterStage.open();
});
afterAll(async () => {
  await stage?.[Symbol.asyncDispose]();
  await report("cluster", "Chaos on a cluster", all);
});

test(
  "every invariant holds when a worker is killed, and when its reports arrive twice, or long after",
  async () => {
    const scene = new Scene(stage, "workers", all);
    const run = await scene.submit({ ranks: 2, seconds: 12 });
    const undoubled = stage.door.deliverTwice();
    await scene.strike("kill -9 worker", run, async () => {
      const ranks = (await stage.site.processes()).filter(({ runId }) => runId === run.id);
      kill(ranks.find(({ rank }) => rank === 1)?.pid ?? 0);
    });
    await scene.strike("reports of an earlier attempt are delivered again", run, async () => {
      return (await stage.door.replay(run.id)).length;
    });
    scene.findings("every report is delivered twice").times = undoubled();
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);

test(
  "every invariant holds when servers of Drydock are killed",
  async () => {
    const scene = new Scene(stage, "servers of Drydock", all);
    const run = await scene.submit({ ranks: 2, seconds: 30 });
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
  "every invariant holds when servers of Kubernetes are killed",
  async () => {
    const scene = new Scene(stage, "servers of Kubernetes", all);
    const run = await scene.submit({ ranks: 1, seconds: 25 });
    const { cluster } = stage;
    await scene.strike("kill -9 API server, back after 2 s", run, async () => {
      await cluster.component("apiserver").kill9();
      await delay(2000);
      await cluster.component("apiserver").start();
    });
    await scene.strike("kill -9 etcd", run, async () => {
      await cluster.component("etcd").kill9();
      await cluster.component("etcd").start();
    });
    await scene.strike("kill -9 kubelet", run, async () => {
      const [pod] = await stage.site.pods(run.id);
      await cluster.component(kubeletOf(nodeOf(pod!))).kill9();
      await cluster.component(kubeletOf(nodeOf(pod!))).start();
    });
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);

test(
  "every invariant holds when the API server's answers fail",
  async () => {
    const scene = new Scene(stage, "answers of the API server", all);
    const { proxy } = stage;
    const creates = (method: string): boolean => method === "POST";
    const busy = proxy.begin({ kind: "status", status: 429, retryAfterSeconds: 1 }, { matches: creates, most: 3 });
    const run = await scene.submit({ ranks: 1, seconds: 20 });
    await until("three creates are refused", async () => (busy.count() === 3 ? true : null));
    busy.end();
    scene.findings("429 with Retry-After while pods are created").times = busy.count();
    const lost = proxy.begin({ kind: "answer-lost" }, { matches: creates, most: 2 });
    const other = await scene.submit({ ranks: 1, seconds: 10 });
    await until("two answers are lost", async () => (lost.count() === 2 ? true : null));
    lost.end();
    scene.findings("answers to creates are lost").times = lost.count();
    await scene.strike("watches are cut", run, async () => {
      let count = 0;
      for (let times = 0; times < 3; times++) {
        count += proxy.cutWatches();
        await delay(500);
      }
      return count;
    });
    for (const how of ["event", "status"] as const)
      await scene.strike(
        `a watch is answered with 410 by its ${how === "event" ? "stream" : "status"}`,
        run,
        async () => {
          const gone = proxy.begin({ kind: "gone", how }, { matches: () => true, most: 4 });
          proxy.cutWatches();
          await until("four watches were told that they are too old", async () => (gone.count() === 4 ? true : null));
          gone.end();
          return gone.count();
        },
      );
    const failing = proxy.begin({ kind: "status", status: 500 }, { matches: () => true, most: 20 });
    proxy.cutWatches();
    await scene.strike("500 to whatever is asked", run, async () => {
      await until("some calls have failed", async () => (failing.count() > 5 ? true : null));
    });
    const slow = proxy.begin({ kind: "slow", milliseconds: 1500 }, { matches: () => true });
    const slowness = scene.findings("every answer 1.5 s late, until the runs have ended");
    expect(other.id).not.toBe(run.id);
    const violations = await scene.end();
    slowness.times = slow.count();
    slow.end();
    failing.end();
    expect(violations).toEqual([]);
  },
  sceneMs,
);

test(
  "every invariant holds when a node is drained, and when it is not ready",
  async () => {
    const lost = new Set<string>();
    const isFenced = ({ node }: { node: string | null }): boolean => lost.has(node ?? "");
    const scene = new Scene(stage, "nodes", all, isFenced);
    const { cluster, namespace } = stage;
    const run = await scene.submit({ ranks: 1, seconds: 25 });
    const nodeOfRun = async (): Promise<string> => {
      const { attempts } = await stage.drydock.run(run.id);
      const pods = await stage.site.pods(run.id);
      return nodeOf(pods.find(({ metadata }) => metadata.labels?.["drydock.dev/epoch"] === String(attempts.length))!);
    };
    await scene.strike("node drained", run, async () => {
      const node = await nodeOfRun();
      expect(await drain(cluster, node, namespace)).toBe(1);
      await until("a second attempt runs", async () =>
        (await stage.drydock.run(run.id)).attempts.length > 1 ? true : null,
      );
      await cordon(cluster, node, false);
    });
    await scene.strike("node not ready: its kubelet is away", run, async () => {
      const node = await nodeOfRun();
      const { attempts } = await stage.drydock.run(run.id);
      lost.add(node);
      await cluster.component(kubeletOf(node)).kill9();
      await nodeIs(cluster, node, false);
      await until("the next attempt runs", async () =>
        (await stage.drydock.run(run.id)).attempts.length > attempts.length ? true : null,
      );
      await cluster.component(kubeletOf(node)).start();
      await nodeIs(cluster, node, true);
      lost.delete(node);
    });
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);

test(
  "every invariant holds with two controllers at once, one that stood still, and a clock that jumps",
  async () => {
    const scene = new Scene(stage, "two controllers", all);
    const clock = await FalseClock.create(stage.scratch);
    const { ports } = await stage.settings();
    const run = await scene.submit({ ranks: 1, seconds: 50 });
    const first = await leaderOf(stage);
    let second: SecondController | null = null;
    try {
      await scene.strike("two controllers at once", run, async () => {
        second = await SecondController.start(stage, clock.environment);
        await delay(3000);
        expect([await leaderOf(stage), await second.leads()]).toEqual([first, false]);
      });
      await scene.strike("the leader stands still for longer than its lease, then goes on", run, async () => {
        const { controller } = await stage.drydock.processes();
        process.kill(controller ?? 0, "SIGSTOP");
        const next = await anotherLeads(stage, first);
        await until("the second controller serves", async () => ((await second?.leads()) === true ? true : null));
        stage.door.leadTo(second?.host ?? "", second?.port ?? 0);
        process.kill(controller ?? 0, "SIGCONT");
        await until("the first one has ended itself", async () =>
          (await stage.drydock.processes())["controller"] === controller ? null : true,
        );
        expect(await leaderOf(stage)).toBe(next);
      });
      await scene.strike("the leader's clock jumps an hour ahead", run, async () => await clock.jump(3600));
      await scene.strike("the leader's clock jumps two hours back", run, async () => await clock.jump(-3600));
      await scene.strike("the leader is asked to end, the other takes over", run, async () => {
        const last = await leaderOf(stage);
        await second?.stop();
        await anotherLeads(stage, last);
        stage.door.leadTo(stage.cluster.hostAddress, ports.controller);
      });
    } finally {
      await (second as SecondController | null)?.stop();
      stage.door.leadTo(stage.cluster.hostAddress, ports.controller);
    }
    expect(await scene.end()).toEqual([]);
  },
  sceneMs,
);

test(
  "a cancel while the controller is killed ends the run for good",
  async () => {
    const scene = new Scene(stage, "cancel", all);
    const run = await scene.submit({ ranks: 2, seconds: 60 });
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
    expect(await scene.end("cancelled")).toEqual([]);
  },
  sceneMs,
);
