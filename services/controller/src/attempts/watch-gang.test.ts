import { setTimeout as delay } from "node:timers/promises";
import { Directive } from "@drydock/proto";
import { afterEach, expect, test, vi } from "vitest";
import { FakeGang } from "../../test/fake-backend.ts";
import { newRanks, type AttemptSession } from "./attempt-registry.ts";
import { watchGang } from "./watch-gang.ts";

afterEach(() => vi.useRealTimers());

function aSession(): AttemptSession {
  return {
    id: "run_1",
    epoch: 1,
    token: "t",
    configJson: "{}",
    onReport: async () => undefined,
    ranks: newRanks(1, Date.now()),
    directive: Directive.CONTINUE,
  };
}

const patience = { reportMs: 12_000, stepMs: 12_000, stopMs: 12_000 };
const signals = { stop: new AbortController().signal, abandon: new AbortController().signal };

test("a controller that stood still, or whose clock jumped, does not take its workers for silent", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const gang = new FakeGang("run_1-a1");
  const watched = watchGang(gang, aSession(), patience, signals);
  await delay(700);
  vi.setSystemTime(Date.now() + 60_000);
  await delay(1100);
  expect(gang.asked).toEqual([]);
  gang.end({ exitCode: 0 });
  expect(await watched).toMatchObject({ hungBecause: null });
});

test("a worker that says nothing for too long is ended, and the reason says how long", async () => {
  const gang = new FakeGang("run_1-a1");
  const { hungBecause } = await watchGang(gang, aSession(), { ...patience, reportMs: 600 }, signals);
  expect(hungBecause).toBe("it said nothing for 0.6 s");
  expect(gang.asked).toEqual(["kill"]);
});
