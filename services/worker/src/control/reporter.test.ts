import { createLogger, UnavailableError } from "@drydock/kit";
import { expect, test } from "vitest";
import { RunControl } from "../training/run-control.ts";
import { Reporter } from "./reporter.ts";
import { ControllerClosingError } from "./controller-closing-error.ts";
import { StaleAttemptError } from "./stale-attempt-error.ts";
import type { Directive, Report, WorkerClient } from "./worker-client.ts";

const step = {
  step: 1,
  loss: 2,
  learningRate: 1e-4,
  gradientNorm: 1,
  tokens: 10,
  seconds: 1,
  memoryBytes: 1,
  epoch: 0.1,
};
const checkpoint = { step: 1, key: "k", sizeBytes: 1, manifestSha256: "x" };
const done = { exitCode: 0, reason: "completed", message: "", modelKey: "models/m/1" };

/** A controller that answers as told: a directive, or an error to throw; then `continue`. */
class ScriptedController implements WorkerClient {
  readonly received: Report[] = [];
  readonly #answers: (Directive | Error)[];
  #told: (() => void)[] = [];

  constructor(...answers: (Directive | Error)[]) {
    this.#answers = answers;
  }

  async join() {
    return { directive: "continue", configJson: "{}", resumeFrom: "", peers: [], missingRanks: [] } as const;
  }

  async report(report: Report): Promise<Directive> {
    this.received.push(report);
    for (const tell of this.#told.splice(0)) tell();
    const answer = this.#answers.shift() ?? "continue";
    if (answer instanceof Error) throw answer;
    return answer;
  }

  async untilReports(count: number): Promise<void> {
    while (this.received.length < count) await new Promise<void>((resolve) => this.#told.push(resolve));
  }
}

function setUp(client: ScriptedController) {
  const control = new RunControl();
  let nowMs = 0;
  const clock = {
    now: () => nowMs,
    epochMs: () => 1_000,
    random: () => 0,
    sleep: async (delayMs: number) => {
      nowMs += delayMs;
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
  const reporter = new Reporter({
    client,
    control,
    clock,
    attempt: 2,
    logger: createLogger("worker", { DRYDOCK_LOG_LEVEL: "silent" }),
    exitCodes: { stop: 143, abort: 130 },
  });
  reporter.start();
  return { control, reporter };
}

test("everything that happened is told once, in order, the outcome last", async () => {
  const client = new ScriptedController();
  const { reporter } = setUp(client);
  reporter.stepFinished(step);
  await client.untilReports(1);
  reporter.stepFinished({ ...step, step: 2 });
  reporter.checkpointSaved(checkpoint, true);
  expect(await reporter.close(done)).toBe(true);

  expect(client.received.flatMap(({ steps }) => steps.map((told) => told.step))).toEqual([1, 2]);
  expect(client.received.flatMap(({ checkpoints }) => checkpoints)).toEqual([{ ...checkpoint, isBest: true }]);
  expect(client.received.map(({ sequence }) => sequence)).toEqual(client.received.map((_, index) => index + 1));
  expect(client.received.at(-1)?.outcome).toEqual(done);
});

test("a worker that was signalled does not wait for a controller that closes and watches nobody", async () => {
  const client = new ScriptedController(...Array.from({ length: 9 }, () => new ControllerClosingError("closing")));
  const { control, reporter } = setUp(client);
  control.askBySignal(143);
  expect(await reporter.close(done)).toBe(false);
  expect(client.received).toHaveLength(1);
});

test("a report without an answer is sent again as it was, and what came meanwhile follows", async () => {
  const away = new UnavailableError("controller_unavailable", "no answer");
  const client = new ScriptedController(away, away);
  const { reporter } = setUp(client);
  reporter.stepFinished(step);
  await client.untilReports(1);
  reporter.stepFinished({ ...step, step: 2 });
  await client.untilReports(4);
  await reporter.close(done);
  expect(client.received[1]).toEqual(client.received[0]);
  expect(client.received[2]).toEqual(client.received[0]);
  expect(client.received[3]).toMatchObject({ sequence: 2, steps: [{ step: 2 }] });
});

test("what was not acknowledged is known, and an attempt that goes on tells it first", async () => {
  const client = new ScriptedController(...Array.from({ length: 5 }, () => new UnavailableError("away", "no answer")));
  const lost = setUp(client);
  lost.reporter.stepFinished(step);
  await client.untilReports(1);
  lost.reporter.stepFinished({ ...step, step: 2, loss: Number.NaN });
  const untold = lost.reporter.untold();
  expect(untold.steps.map((each) => [each.step, each.loss, each.attempt])).toEqual([
    [1, 2, 2],
    [2, null, 2],
  ]);
  await lost.reporter.close(done);
  expect(lost.reporter.untold()).toEqual({ steps: [], evaluations: [] });

  const next = new ScriptedController();
  const { reporter } = setUp(next);
  reporter.retell({ ...untold, steps: untold.steps.map((each) => ({ ...each, attempt: 1 })) });
  reporter.stepFinished({ ...step, step: 3 });
  await reporter.close(done);
  const told = next.received.flatMap(({ steps }) => steps);
  expect(told.map((each) => [each.step, each.attempt])).toEqual([
    [1, 1],
    [2, 1],
    [3, 2],
  ]);
  expect(told[1]?.loss).toBeNaN();
});

test.each([
  ["checkpoint-and-stop", "stop", 143],
  ["abort", "abort", 130],
] as const)("the directive %s asks the loop to %s", async (directive, request, exitCode) => {
  const client = new ScriptedController(directive);
  const { reporter, control } = setUp(client);
  await client.untilReports(2);
  expect(control).toMatchObject({ request, exitCode });
  await reporter.close(done);
});

test("a directive to save is not obeyed twice: it counts again once the checkpoint was told", async () => {
  const client = new ScriptedController("checkpoint", "checkpoint", "continue", "checkpoint");
  const { reporter, control } = setUp(client);
  await client.untilReports(1);
  await client.untilReports(2);
  expect(control.isCheckpointWanted).toBe(true);
  reporter.checkpointSaved(checkpoint, false);
  control.checkpointSaved();
  await client.untilReports(3);
  expect(control.isCheckpointWanted).toBe(false);
  await client.untilReports(5);
  expect(control.isCheckpointWanted).toBe(true);
  await reporter.close(done);
});

test("a stale attempt is asked to abort and reports no more", async () => {
  const client = new ScriptedController(new StaleAttemptError(null));
  const { reporter, control } = setUp(client);
  await client.untilReports(1);
  expect(await reporter.close(done)).toBe(false);
  expect(control.request).toBe("abort");
  expect(client.received).toHaveLength(1);
});

test("a controller that never comes back does not keep a finished worker for ever", async () => {
  const client = new ScriptedController(
    ...Array.from({ length: 10_000 }, () => new UnavailableError("controller_unavailable", "no answer")),
  );
  const { reporter } = setUp(client);
  expect(await reporter.close(done)).toBe(false);
});

test("a worker ended by a signal does not wait long for a controller that is gone", async () => {
  const client = new ScriptedController(
    ...Array.from({ length: 10_000 }, () => new UnavailableError("controller_unavailable", "no answer")),
  );
  const { reporter, control } = setUp(client);
  control.askBySignal(143);
  expect(await reporter.close(done)).toBe(false);
  expect(client.received.length).toBeLessThan(20);
});
