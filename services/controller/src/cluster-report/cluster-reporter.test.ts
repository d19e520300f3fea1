import { UnavailableError, createLogger } from "@drydock/kit";
import type { ClusterNode, ClusterReport, ClusterReportAnswer } from "@drydock/spec";
import { expect, test, vi } from "vitest";
import { Capacity } from "../attempts/capacity.ts";
import type { ClusterFacts } from "./cluster-facts.ts";
import { ClusterReporter } from "./cluster-reporter.ts";
import { LocalFacts } from "./local-facts.ts";

const logger = createLogger("test", { DRYDOCK_LOG_LEVEL: "silent" });
const quick = { lookMs: 2, repeatMs: 1_000_000 };

class FakeApi {
  readonly reports: ClusterReport[] = [];
  answer: ClusterReportAnswer = { waiting: [] };
  isAway = false;

  async reportCluster(report: ClusterReport): Promise<ClusterReportAnswer> {
    if (this.isAway) throw new UnavailableError("api_unavailable", "away");
    this.reports.push(report);
    return this.answer;
  }
}

test("this computer is a node whose worker slots are taken and given back", async () => {
  const capacity = new Capacity(2);
  const facts = new LocalFacts(capacity);
  const release = capacity.occupy();
  expect(await facts.nodes()).toMatchObject([{ accelerator: "cpu", gpus: { total: 2, free: 1 }, unusable: null }]);
  release();
  capacity.close();
  expect(await facts.nodes()).toMatchObject([{ gpus: { total: 2, free: 2 }, unusable: "the controller is closing" }]);
});

test("what did not change is said once, a change at the next look", async () => {
  const capacity = new Capacity(2);
  const api = new FakeApi();
  let looks = 0;
  const local = new LocalFacts(capacity);
  const counting: ClusterFacts = {
    backend: "local",
    nodes: async (): Promise<ClusterNode[]> => {
      looks++;
      return await local.nodes();
    },
    queues: async () => [],
    unlistedQueues: () => null,
    onWaiting: () => undefined,
  };
  const reporter = new ClusterReporter(counting, api, logger, quick);
  reporter.start();
  await vi.waitUntil(() => looks > 5);
  expect(api.reports).toHaveLength(1);
  capacity.occupy();
  await vi.waitUntil(() => api.reports.length === 2);
  expect(api.reports[1]?.nodes[0]?.gpus.free).toBe(1);
  reporter.stop();
});

test("an api that was away is told when it is back", async () => {
  const api = new FakeApi();
  api.isAway = true;
  const reporter = new ClusterReporter(new LocalFacts(new Capacity(1)), api, logger, quick);
  reporter.start();
  await new Promise((resolve) => setImmediate(resolve));
  api.isAway = false;
  await vi.waitUntil(() => api.reports.length > 0);
  reporter.stop();
  expect(api.reports).toHaveLength(1);
});

test("a run that waits with a new priority goes before the others", async () => {
  const capacity = new Capacity(1);
  const release = capacity.occupy();
  const admitted: string[] = [];
  const never = new AbortController().signal;
  const told = new Map<string, string>();
  for (const id of ["run_1", "run_2"])
    void capacity
      .acquire(
        {
          id,
          priority: "normal",
          queue: "default",
          slots: 1,
          accelerator: null,
          gpus: 0,
          tell: (why) => told.set(id, why),
        },
        never,
      )
      .then(() => admitted.push(id));
  const api = new FakeApi();
  api.answer = { waiting: [{ runId: "run_2", queue: "default", priority: "high" }] };
  const reporter = new ClusterReporter(new LocalFacts(capacity), api, logger, quick);
  reporter.start();
  await vi.waitUntil(() => told.get("run_1")?.includes("1 run ahead") === true);
  release();
  await vi.waitUntil(() => admitted.length === 1);
  expect(admitted).toEqual(["run_2"]);
  reporter.stop();
});
