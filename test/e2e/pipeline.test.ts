import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebhookReceiver } from "../../services/api/test/support/webhook-receiver.ts";
import { Embedded, kill, until } from "../support/embedded.ts";
import {
  PipelineScene,
  expectPromoted,
  expectRefused,
  expectRolledBack,
  expectTimeline,
  linesOf,
  retrainingSteps,
} from "../support/pipeline-scene.ts";

let scratch: string;
let drydock: Embedded;
let scene: PipelineScene;
let listener: WebhookReceiver;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-pipeline-"));
  listener = await WebhookReceiver.open();
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "3", DRYDOCK_WEBHOOK_ALLOW: "127.0.0.1" });
  await drydock.up();
  const events = ["pipeline-run.*", "model.promoted", "model.rolled-back"];
  await drydock.call("POST", "/v1/webhooks", { url: listener.url, events });
  scene = new PipelineScene(drydock, scratch);
  await scene.importData();
});
afterAll(async () => {
  await drydock.down();
  await listener[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

test("a first version is put into production by hand, and a pipeline is made", async () => {
  expect(await scene.putFirstVersionIntoProduction()).toBe("painter@1");
  await scene.createRetraining();
  expect(await scene.production()).toBe(1);
});

test("new data starts it: sweep, evaluation, gate and promotion, with controller and api killed in between", async () => {
  await scene.addGoodData();
  const sweepId = await scene.sweepOf(1);
  await until("trials run", async () => ((await scene.sweep(sweepId)).trials.started >= 3 ? true : null));
  kill((await drydock.processes())["controller"] as number);
  const isEvaluated = async (): Promise<true | null> =>
    (await scene.retraining(1))?.step === "evaluate" ? true : null;
  await until("the candidate is evaluated", isEvaluated, 240_000);
  kill((await drydock.processes())["api"] as number);
  await expectPromoted(scene, 1);
});

test("poisoned data is refused by the gate with the reason, and production stays", async () => {
  const before = await scene.production();
  await scene.addPoisonedData();
  await expectRefused(scene, 2, before);
});

test("reported answers of a promoted version get worse: it is rolled back by itself", async () => {
  const before = await scene.production();
  const { id } = await scene.promoteWatched();
  expect(await scene.production()).not.toBe(before);
  kill((await drydock.processes())["controller"] as number);
  await scene.reportBadAnswers();
  await expectRolledBack(scene, id, before);
});

test("a run is rolled back in one call", async () => {
  const { id } = (await scene.retraining(1))!;
  const comment = "it mistakes blue for red";
  await drydock.call("POST", `/v1/pipeline-runs/${id}/rollback`, { comment });
  expect(await scene.production()).toBe(1);
  await expectTimeline(scene, id, [...linesOf(retrainingSteps), "rolled-back"]);
  expect((await scene.timeline(id)).at(-1)?.message).toBe(`painter@1 is in production again: ${comment}`);
});

test("whoever asked to be told has heard each turn of it, although the api was killed in between", async () => {
  const wanted = {
    "model.promoted": 3,
    "model.rolled-back": 2,
    "pipeline-run.refused": 1,
    "pipeline-run.rolled-back": 1,
    "pipeline-run.running": 3,
    "pipeline-run.succeeded": 1,
  };
  const heard = (): Record<string, number> => {
    // A delivery may come twice when its sender was killed; its id says so.
    const types = new Map(listener.received.map(({ headers, body }) => [headers["webhook-id"], body]));
    const counts: Record<string, number> = {};
    for (const body of types.values()) {
      const { type } = JSON.parse(body) as { type: string };
      counts[type] = (counts[type] ?? 0) + 1;
    }
    return counts;
  };
  await until("all is told", async () => (isDeepStrictEqual(heard(), wanted) ? true : null)).catch(() => null);
  expect(heard()).toEqual(wanted);
});
