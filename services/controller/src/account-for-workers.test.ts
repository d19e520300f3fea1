import { expect, test, vi } from "vitest";
import { createLogger, NotFoundError } from "@drydock/kit";
import type { InternalRun } from "@drydock/spec";
import { FakeBackend, FakeGang } from "../test/fake-backend.ts";
import { accountForWorkers } from "./account-for-workers.ts";
import { Capacity } from "./attempts/capacity.ts";
import { stopWorkers } from "./close-controller.ts";
import { AttemptRegistry } from "./attempts/attempt-registry.ts";

const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });

test("workers of runs that are over or unknown are ended, the others keep their slot until they end", async () => {
  const [wanted, over, unknown, evaluation] = ["run_1-a1", "run_2-a3", "run_3-a1", "eval_1-a1"].map(
    (name) => new FakeGang(name),
  );
  const capacity = new Capacity(2);
  const api = {
    run: async (id: string) => {
      if (id === "run_3") throw new NotFoundError("api_not_found", "no such run");
      return { state: id === "run_2" ? "succeeded" : "running" } as InternalRun;
    },
  };
  await accountForWorkers({ backend: new FakeBackend(wanted!, over!, unknown!, evaluation!), capacity, logger }, api);
  const waiting = capacity.acquire(
    { id: "run_9", priority: "normal", queue: "default", slots: 1, accelerator: null, gpus: 0, tell: () => undefined },
    new AbortController().signal,
  );
  await vi.waitUntil(() => over!.asked.length + unknown!.asked.length === 2);
  expect([wanted!.asked, evaluation!.asked]).toEqual([[], []]);
  evaluation!.kill();
  await expect(waiting).resolves.toBeTypeOf("function");
});

test("a closing controller admits nobody, asks its workers to stop, and ends those that do not", async () => {
  const obedient = new FakeGang("run_1-a1");
  const stubborn = new FakeGang("run_2-a1", false);
  const capacity = new Capacity(1);
  await stopWorkers(
    { capacity, registry: new AttemptRegistry(), backend: new FakeBackend(obedient, stubborn), logger },
    20,
  );
  expect(obedient.asked[0]).toBe("stop");
  expect(stubborn.asked).toEqual(["stop", "kill"]);
  let isAdmitted = false;
  void capacity
    .acquire(
      { id: "run_3", priority: "high", queue: "default", slots: 1, accelerator: null, gpus: 0, tell: () => undefined },
      new AbortController().signal,
    )
    .then(() => (isAdmitted = true));
  await new Promise((resolve) => setImmediate(resolve));
  expect(isAdmitted).toBe(false);
});
