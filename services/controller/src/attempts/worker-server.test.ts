import type { Server } from "node:http";
import { createClient, type Client } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createLogger, UnavailableError } from "@drydock/kit";
import { Directive, Phase, WorkerService, type ReportRequest } from "@drydock/proto";
import { AttemptRegistry, type AttemptSession } from "./attempt-registry.ts";
import { serveWorkers } from "./worker-server.ts";

let server: Server;
let client: Client<typeof WorkerService>;
let registry: AttemptRegistry;
let stored: ReportRequest[];
beforeEach(async () => {
  registry = new AttemptRegistry();
  stored = [];
  const served = await serveWorkers(registry, 0, createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }));
  ({ server } = served);
  client = createClient(
    WorkerService,
    createConnectTransport({ baseUrl: `http://127.0.0.1:${served.port}`, httpVersion: "1.1" }),
  );
});
afterEach(() => {
  server.close();
  server.closeAllConnections();
});

/** Attempt 2 of run_1, watched. */
function anAttempt(change: Partial<AttemptSession> = {}): AttemptSession {
  const session: AttemptSession = {
    id: "run_1",
    epoch: 2,
    token: "right",
    configJson: "{}",
    directive: Directive.CONTINUE,
    outcome: null,
    phase: Phase.UNSPECIFIED,
    lastReportAtMs: 0,
    reportsInFlight: 0,
    lastProgressAtMs: 0,
    onReport: async (report) => void stored.push(report),
    ...change,
  };
  registry.add(session);
  return session;
}

const identity = { runId: "run_1", epoch: 2, rank: 0, token: "right" };

test("a worker joins with its token and gets its config", async () => {
  anAttempt({ configJson: '{"kind":"train"}' });
  expect(await client.join(identity)).toMatchObject({ directive: Directive.CONTINUE, configJson: '{"kind":"train"}' });
});

test("a stale epoch is told to abort and changes nothing", async () => {
  anAttempt();
  const stale = { ...identity, epoch: 1, token: "of attempt 1" };
  expect(await client.join(stale)).toMatchObject({ directive: Directive.ABORT, configJson: "" });
  expect(await client.report({ ...stale, steps: [{ step: 9 }] })).toMatchObject({ directive: Directive.ABORT });
  expect(stored).toEqual([]);
});

test("a wrong token is refused", async () => {
  anAttempt();
  await expect(client.report({ ...identity, token: "wrong" })).rejects.toThrow(
    "this epoch and token are not of a running attempt",
  );
  expect(stored).toEqual([]);
});

test("an attempt that nobody watches yet is to try again", async () => {
  await expect(client.join(identity)).rejects.toThrow("[unavailable] no controller watches this attempt yet");
});

test("a report is acknowledged only when it is stored, and carries the directive back", async () => {
  let isAway = true;
  const session = anAttempt({
    directive: Directive.CHECKPOINT_AND_STOP,
    onReport: async () => {
      if (isAway) throw new UnavailableError("api_unavailable", "the api does not answer");
    },
  });
  const last = { ...identity, outcome: { exitCode: 0, reason: "completed", message: "", modelKey: "models/m/1" } };
  await expect(client.report(last)).rejects.toThrow("[unavailable] the api does not answer");
  expect(session.outcome).toBeNull();
  isAway = false;
  expect(await client.report(last)).toMatchObject({ directive: Directive.CHECKPOINT_AND_STOP });
  expect(session.outcome).toMatchObject({ modelKey: "models/m/1" });
});

test("a report without news is a sign of life, but no progress", async () => {
  const session = anAttempt({ phase: Phase.TRAINING });
  await client.report({ ...identity, phase: Phase.TRAINING });
  expect(session.lastReportAtMs).toBeGreaterThan(0);
  expect(session.lastProgressAtMs).toBe(0);
  await client.report({ ...identity, phase: Phase.TRAINING, steps: [{ step: 1 }] });
  expect(session.lastProgressAtMs).toBeGreaterThan(0);
});
