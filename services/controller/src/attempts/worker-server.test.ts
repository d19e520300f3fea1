import type { Server } from "node:http";
import { createClient, type Client } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger, UnavailableError } from "@drydock/kit";
import { Directive, Phase, WorkerService, type ReportRequest } from "@drydock/proto";
import { AttemptRegistry, newRanks, type AttemptSession, type RankSession } from "./attempt-registry.ts";
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
    ranks: newRanks(1, 0),
    directive: Directive.CONTINUE,
    onReport: async (report) => void stored.push(report),
    ...change,
  };
  registry.add(session);
  return session;
}

function first({ ranks }: AttemptSession): RankSession {
  return ranks[0] as RankSession;
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

test("an attempt that nobody will watch, since the controller closes, is told so; one that is watched is still heard", async () => {
  const session = anAttempt();
  registry.stopAll();
  expect(await client.report(identity)).toMatchObject({ directive: Directive.CHECKPOINT_AND_STOP });
  registry.remove(session);
  await expect(client.report(identity)).rejects.toThrow("[aborted] the controller is closing");
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
  expect(first(session).outcome).toBeNull();
  isAway = false;
  expect(await client.report(last)).toMatchObject({ directive: Directive.CHECKPOINT_AND_STOP });
  expect(first(session).outcome).toMatchObject({ modelKey: "models/m/1" });
});

test("a report without news is a sign of life, but no progress", async () => {
  const session = anAttempt();
  first(session).phase = Phase.TRAINING;
  await client.report({ ...identity, phase: Phase.TRAINING });
  expect(first(session).lastReportAtMs).toBeGreaterThan(0);
  expect(first(session).lastProgressAtMs).toBe(0);
  await client.report({ ...identity, phase: Phase.TRAINING, steps: [{ step: 1 }] });
  expect(first(session).lastProgressAtMs).toBeGreaterThan(0);
});

test("ranks learn where the others are when all have joined", async () => {
  anAttempt({ ranks: newRanks(3, 0), configJson: "{}" });
  const join = async (rank: number) =>
    await client.join({ ...identity, rank, listenAddress: `127.0.0.1:${9000 + rank}` });
  const early = [join(2), join(0)];
  const peers = ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"];
  expect(await join(1)).toMatchObject({ peers, missingRanks: [], configJson: "{}" });
  for (const answer of await Promise.all(early)) expect(answer).toMatchObject({ peers, missingRanks: [] });
});

test("a rank is told whom it waits for, and calls again", async () => {
  anAttempt({ ranks: newRanks(3, 0) });
  expect(await client.join({ ...identity, rank: 1, listenAddress: "127.0.0.1:9001" })).toMatchObject({
    peers: [],
    missingRanks: [0, 2],
  });
});

test("a rank that the attempt does not have is refused", async () => {
  anAttempt({ ranks: newRanks(2, 0) });
  await expect(client.join({ ...identity, rank: 2 })).rejects.toThrow(
    "there is no rank 2: the attempt has 2, counted from 0",
  );
});

test("a rank that waited for others while its attempt was replaced is told to abort", async () => {
  const replaced = anAttempt({ ranks: newRanks(2, 0) });
  const waiting = client.join({ ...identity, listenAddress: "127.0.0.1:9000" });
  await vi.waitUntil(() => first(replaced).listenAddress !== null);
  anAttempt({ epoch: 3, token: "newer", ranks: newRanks(2, 0) });
  expect(await waiting).toMatchObject({ directive: Directive.ABORT });
});
