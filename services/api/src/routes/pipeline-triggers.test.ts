import type { PipelineRun } from "@drydock/spec";
import { eq } from "drizzle-orm";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { onEachDatabase, useApi } from "../../test/support/api.ts";
import { pipelineStage } from "../../test/support/pipeline-stage.ts";
import { registerModel } from "../../test/support/registered-model.ts";
import { promoteModel } from "../registry/promote-model.ts";
import { requestCancel } from "../pipelines/fire-trigger.ts";
import { PipelineStore } from "../store/pipeline-store.ts";
import { attempts, pipelineRuns, pipelines, runs } from "../store/schema.ts";

onEachDatabase("what starts and holds back pipelines", (location) => {
  const api = useApi(location);
  const stage = pipelineStage(api);
  const { create, trigger, read, timeline, settle, finishTraining, finishEvaluations, gated, runTemplate } = stage;

  const runsOf = async (name: string): Promise<PipelineRun[]> =>
    (await api().ok<{ items: PipelineRun[] }>("GET", `/v1/pipelines/${name}/runs`)).items;
  async function promote(name: string, version: number): Promise<void> {
    const order = { name, version, to: "production", actor: "test", key: `${name}@${version}`, message: "" } as const;
    await api().services.database.transaction(async (tx) => await promoteModel(tx, order));
  }

  async function signed(name: string, secret: string, id: string, time = new Date(), body = '{"pushed":true}') {
    const headers = {
      "content-type": "application/json",
      "webhook-id": id,
      "webhook-timestamp": String(Math.floor(time.getTime() / 1000)),
      "webhook-signature": new StandardWebhook(secret).sign(id, time, body),
    };
    return await api().send("POST", `/v1/pipelines/${name}/webhook`, { body, headers, key: null });
  }
  const secretOf = async (name: string): Promise<string> =>
    (await api().ok<{ secret: string }>("POST", `/v1/pipelines/${name}/webhook-secret`, {})).secret;

  test("a signed request starts a run, once for each id; no key is needed", async () => {
    const { name } = await create({ triggers: [{ type: "webhook" }], overlap: "queue" });
    const secret = await secretOf(name);
    const first = await signed(name, secret, "push-1");
    expect(first.statusCode).toBe(202);
    expect(first.json()).toMatchObject({
      number: 1,
      state: "running",
      trigger: { type: "webhook", detail: "webhook push-1" },
    });
    const again = await signed(name, secret, "push-1", new Date(Date.now() - 60_000));
    expect(again.statusCode).toBe(200);
    expect(again.json()).toMatchObject({ id: first.json<PipelineRun>().id });
    expect((await signed(name, secret, "push-2")).json()).toMatchObject({ number: 2, state: "queued" });
    expect(await runsOf(name)).toHaveLength(2);
  });

  test("a request of another secret, of long ago, changed, unsigned, or to no pipeline is refused alike and starts nothing", async () => {
    const { name } = await create({ triggers: [{ type: "webhook" }] });
    const old = await secretOf(name);
    const secret = await secretOf(name);
    const { name: without } = await create({ triggers: [{ type: "webhook" }] });
    const refused = [
      await signed(name, old, "a"),
      await signed(name, secret, "b", new Date(Date.now() - 6 * 60_000)),
      await signed(name, secret, "c", new Date(Date.now() + 6 * 60_000)),
      await signed(without, secret, "d"),
      await signed("nowhere", secret, "e"),
      await api().send("POST", `/v1/pipelines/${name}/webhook`, { body: {}, key: null }),
      await api().send("POST", `/v1/pipelines/${name}/webhook`, { body: {} }),
    ];
    expect(refused.map((response) => [response.statusCode, response.json<{ code: string }>().code])).toEqual(
      refused.map(() => [401, "invalid_signature"]),
    );
    const detailOf = (place: number) => refused[place]?.json<{ detail: string }>().detail;
    expect(detailOf(0)).toContain("No matching signature found");
    // Nobody learns from these words which pipelines there are.
    expect([detailOf(3), detailOf(4)]).toEqual([detailOf(0), detailOf(0)]);
    expect(refused[1]?.json<{ detail: string }>().detail).toContain("timestamp too old");
    const large = await signed(name, secret, "f", new Date(), "x".repeat(70_000));
    expect(large.statusCode).toBe(413);
    expect(await runsOf(name)).toEqual([]);
  });

  test("a captured request whose body begins like a time is not another request with another id", async () => {
    const { name } = await create({ triggers: [{ type: "webhook" }], overlap: "queue" });
    const secret = await secretOf(name);
    const [seconds, later] = [Math.floor(Date.now() / 1000), Math.floor(Date.now() / 1000) + 60];
    const body = `${later}.done`;
    const first = await signed(name, secret, "push-1", new Date(seconds * 1000), body);
    expect(first.statusCode).toBe(202);
    // The same signed text, cut at other places.
    const headers = {
      "content-type": "text/plain",
      "webhook-id": `push-1.${seconds}`,
      "webhook-timestamp": String(later),
      "webhook-signature": new StandardWebhook(secret).sign("push-1", new Date(seconds * 1000), body),
    };
    const url = `/v1/pipelines/${name}/webhook`;
    const again = await api().send("POST", url, { body: "done", headers, key: null });
    expect(again.json()).toMatchObject({ status: 400, code: "invalid_webhook_id" });
    expect(await runsOf(name)).toHaveLength(1);
  });

  test("a pipeline without the trigger, or paused, says so to who has signed", async () => {
    const { name } = await create();
    const secret = await secretOf(name);
    expect((await signed(name, secret, "a")).json()).toMatchObject({ status: 409, code: "no_webhook_trigger" });
    const { name: paused } = await create({ triggers: [{ type: "webhook" }] });
    const other = await secretOf(paused);
    await api().ok("POST", `/v1/pipelines/${paused}/pause`, {});
    expect((await signed(paused, other, "a")).json()).toMatchObject({ status: 409, code: "pipeline_paused" });
  });

  const answers = (right: number, wrong: number, prefix: string): object[] =>
    Array.from({ length: right + wrong }, (_, index) => ({
      key: `${prefix}-${index}`,
      time: new Date().toISOString(),
      answer: index < right ? "a" : "b",
      truth: "a",
    }));

  test.each([
    ["a number", { minimum: 70 }, "below 70"],
    ["its own score after training", { maximumDrop: 15 }, "below 75"],
  ])(
    "live answers of the version in production that fall below %s start one run a window",
    async (_name, limit, sentence) => {
      const run = runTemplate(`live-${"minimum" in limit ? "a" : "b"}`) as { name: string };
      const { name } = await create({
        steps: [{ type: "train", run }],
        triggers: [{ type: "metric", metric: "exact-match", minimumSamples: 20, windowSeconds: 3600, ...limit }],
        overlap: "queue",
      });
      const look = async (time = new Date()): Promise<void> => await api().services.schedules.look(time);
      const report = async (batch: object[]): Promise<void> =>
        await api().ok("POST", `/v1/models/${run.name}/observations`, { observations: batch });
      await look();
      const lineage = { scores: { before: null, after: { "exact-match": 90 } } };
      await registerModel(api(), { name: run.name, version: 1, lineage });
      await promote(run.name, 1);
      await report(answers(10, 0, "good"));
      await report(answers(0, 9, "few"));
      await look();
      expect(await runsOf(name)).toEqual([]);
      await report(answers(0, 2, "enough"));
      const now = new Date();
      await look(now);
      await look(now);
      const [started, ...others] = await runsOf(name);
      expect(others).toEqual([]);
      expect(started).toMatchObject({ state: "running", trigger: { type: "metric" } });
      expect(started?.trigger.detail).toBe(
        `live exact-match of ${run.name}@1 fell to 47.62 on 21 answers, ${sentence}`,
      );
      await report(answers(0, 5, "worse"));
      await look(now);
      expect(await runsOf(name)).toHaveLength(1);
      await api().ok("POST", `/v1/pipelines/${name}/pause`, {});
      await look(new Date(now.getTime() + 3000_000));
      expect(await runsOf(name)).toHaveLength(1);
    },
  );

  test.each([
    [
      { triggers: [{ type: "metric", metric: "exact-match" }] },
      "triggers.0",
      'needs either "minimum" or "maximumDrop"',
    ],
    [
      { triggers: [{ type: "metric", metric: "f1@0.5", minimum: 1 }] },
      "triggers.0.metric",
      'metric "f1@0.5" is not one of task "vqa"',
    ],
    [{ maxConcurrent: 0 }, "maxConcurrent", "too small: expected number to be"],
    [{ budget: { gpuHours: 0 } }, "budget.gpuHours", "too small: expected number to be"],
  ])("%o is refused at its field", async (change, path, message) => {
    const problem = await api().refused("POST", "/v1/pipelines", { body: await stage.body(change) });
    expect(problem.errors[0]?.path).toBe(path);
    expect(problem.detail).toContain(message);
  });

  test("so many runs as may be are open at a time; who waits starts in turn when one ends", async () => {
    const { name } = await create({ maxConcurrent: 2, overlap: "queue" });
    const made = [await trigger(name), await trigger(name), await trigger(name), await trigger(name)];
    expect(made.map(({ state }) => state)).toEqual(["running", "running", "queued", "queued"]);
    expect(made[2]?.message).toBe("waits until runs 1, 2 have ended");
    await api().ok("POST", `/v1/pipeline-runs/${made[1]?.id}/cancel`, {});
    await settle(made[1]!.id);
    expect((await runsOf(name)).map(({ number, state }) => [number, state])).toEqual([
      [4, "queued"],
      [3, "running"],
      [2, "cancelled"],
      [1, "running"],
    ]);
    const { name: skipping } = await create({ maxConcurrent: 2 });
    for (let time = 0; time < 3; time++) await trigger(skipping);
    expect((await runsOf(skipping))[0]).toMatchObject({
      state: "skipped",
      message: "left out: runs 1, 2 are still open",
    });
  });

  test("a training that uses up the budget of GPU hours is cancelled and ends the run; a sweep gets it as its own", async () => {
    const { name } = await create({ budget: { gpuHours: 2 } });
    const { id } = await trigger(name);
    await settle(id);
    const { runId } = (await read(id)).results;
    const startedAt = new Date(Date.now() - 3 * 3_600_000);
    const attempt = {
      epoch: 1,
      state: "running",
      failureClass: null,
      message: null,
      exitCode: null,
      fromStep: 0,
      lastStep: 0,
      microBatchSize: 1,
      startedAt: startedAt.toISOString(),
      endedAt: null,
    };
    await api().ok("PUT", `/internal/v1/runs/${runId}/attempts/1`, attempt);
    expect(await settle(id)).toEqual({ kind: "wait" });
    const { database } = api().services;
    await database.update(runs).set({ state: "cancelled" }).where(eq(runs.id, runId!));
    await database.update(attempts).set({ endedAt: new Date() }).where(eq(attempts.runId, runId!));
    await settle(id);
    const ended = await read(id);
    expect(ended.state).toBe("failed");
    expect(ended.message).toMatch(
      /was cancelled after 3\.00 GPU hours: the budget of 2 is used up; its checkpoints are kept$/,
    );
    const audit = await api().ok<{ items: { type: string; actor: string }[] }>("GET", `/v1/runs/${runId}/events`);
    expect(audit.items.length).toBeGreaterThan(0);

    const sweep = {
      name: "search",
      run: runTemplate("searched"),
      space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 } },
      search: { kind: "random", trials: 2 },
      budget: { gpuHours: 5 },
    };
    const searching = await create({ steps: [{ type: "sweep", sweep }], budget: { gpuHours: 2 } });
    const searched = await trigger(searching.name);
    await settle(searched.id);
    const { sweepId } = (await read(searched.id)).results;
    expect(await api().ok("GET", `/v1/sweeps/${sweepId}`)).toMatchObject({ spec: { budget: { gpuHours: 2 } } });
  });

  test("a candidate is held against what is in production when it is promoted, not against what was there before", async () => {
    const model = "raced";
    const { name } = await create(gated(runTemplate(model)));
    for (const version of [1, 2]) await registerModel(api(), { name: model, version });
    await promote(model, 1);
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, model, 3);
    await settle(id);
    await finishEvaluations(id, { candidate: 40, production: 30 });
    expect(await settle(id)).toMatchObject({ kind: "promote", version: 3, expected: 1 });

    // Somebody promotes another version while the files are being verified.
    await promote(model, 2);
    const verification = await api().ok<{ isSound: boolean }>(
      "POST",
      `/v1/models/${model}/versions/3/verification`,
      {},
    );
    const order = { key: `${id}/promote`, actor: id, message: "", verification, expected: 1 };
    const refused = await api().refused("POST", `/internal/v1/models/${model}/versions/3/promote`, { body: order });
    expect(refused).toMatchObject({ status: 409, code: "production_changed" });
    expect(refused.detail).toBe("raced@2 is in production by now, not raced@1: compare with that first");
    expect(await settle(id)).toEqual({ kind: "wait" });
    expect((await read(id)).results).toMatchObject({ production: "raced@2", repeats: 1 });
    await finishEvaluations(id, { candidate: 40, production: 45 });
    await settle(id);
    expect(await read(id)).toMatchObject({ state: "refused" });
    const events = await timeline(id);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
    expect(events.map(({ type, step }) => `${type} ${step}`)).toEqual([
      "triggered null",
      "step.started train",
      "step.done train",
      "step.started evaluate",
      "step.done evaluate",
      "step.started gate",
      "step.done gate",
      "step.started promote",
      "step.repeated evaluate",
      "step.started evaluate",
      "step.done evaluate",
      "step.started gate",
      "ended null",
    ]);
    const [row] = await api().services.database.select().from(pipelineRuns).where(eq(pipelineRuns.id, id));
    expect(row?.results.done).toEqual(["train", "evaluate"]);
  });

  test("a schedule that is added later begins then: times before are not caught up", async () => {
    const { name, spec } = await create({ overlap: "queue", catchUp: "all" });
    const { database, schedules } = api().services;
    const monthAgo = new Date(Date.now() - 30 * 86_400_000);
    await database.update(pipelines).set({ scheduledUntil: monthAgo }).where(eq(pipelines.name, name));
    const hourly = [{ type: "cron", expression: "0 * * * *" }];
    await api().ok("PUT", `/v1/pipelines/${name}`, { ...spec, triggers: hourly });
    await schedules.look(new Date());
    expect(await runsOf(name)).toEqual([]);
    // One whose schedules stay as they are keeps what fell due meanwhile.
    const twoHoursAgo = new Date(Date.now() - 2 * 3_600_000);
    await database.update(pipelines).set({ scheduledUntil: twoHoursAgo }).where(eq(pipelines.name, name));
    await api().ok("PUT", `/v1/pipelines/${name}`, { ...spec, triggers: hourly, maxConcurrent: 2 });
    await schedules.look(new Date());
    expect((await runsOf(name)).length).toBe(2);
  });

  test("a pipeline whose look fails does not keep others from their times", async () => {
    const hourly = { overlap: "queue", triggers: [{ type: "cron", expression: "0 * * * *" }] };
    const broken = await create({ ...hourly, name: "a-broken" });
    const sound = await create({ ...hourly, name: "b-sound" });
    const { database, schedules } = api().services;
    const hourAgo = new Date(Date.now() - 3_600_000);
    for (const { name } of [broken, sound])
      await database.update(pipelines).set({ scheduledUntil: hourAgo }).where(eq(pipelines.name, name));
    const spec = { ...broken.spec, triggers: [{ type: "cron" as const, expression: "no time", timeZone: "UTC" }] };
    await database.update(pipelines).set({ spec }).where(eq(pipelines.name, broken.name));
    await schedules.look(new Date());
    expect(await runsOf(sound.name)).toHaveLength(1);
    expect((await api().send("DELETE", `/v1/pipelines/${broken.name}`)).statusCode).toBe(204);
  });

  test("a waiting run that is cancelled just as its turn comes stays cancelled", async () => {
    const { name } = await create({ overlap: "queue" });
    const first = await trigger(name);
    const second = await trigger(name);
    await api().ok("POST", `/v1/pipeline-runs/${first.id}/cancel`, {});
    const { database } = api().services;
    // Whoever cancels holds the run's lock while the turn is given.
    const { promise: isLocked, resolve: locked } = Promise.withResolvers<void>();
    const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
    const cancelling = database.transaction(async (tx) => {
      await requestCancel(new PipelineStore(tx), second.id, "test", "not needed");
      locked();
      await mayEnd;
    });
    await isLocked;
    const turn = settle(first.id);
    setTimeout(end, 300);
    await cancelling;
    await turn;
    expect(await read(second.id)).toMatchObject({ state: "cancelled" });
  });

  test("of two changes at once that would close a circle one is refused", async () => {
    const [a, b] = [await create(), await create()];
    const follow = async (follower: { name: string; spec: object }, followed: string) =>
      await api().send("PUT", `/v1/pipelines/${follower.name}`, {
        body: { ...follower.spec, triggers: [{ type: "pipeline", pipeline: followed }] },
      });
    const changed = await Promise.all([follow(a, b.name), follow(b, a.name)]);
    expect(changed.filter(({ statusCode }) => statusCode === 400)).toHaveLength(1);
  });

  test("an approval that is given again, because production changed, is a line of its own in the timeline", async () => {
    const model = "approved-twice";
    const { name } = await create(gated(runTemplate(model), {}, [{ type: "approve" }, { type: "promote" }]));
    for (const version of [1, 2]) await registerModel(api(), { name: model, version });
    await promote(model, 1);
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, model, 3);
    await settle(id);
    for (const comment of ["better than 1", "better than 2"]) {
      await finishEvaluations(id, { candidate: 40, production: 30 });
      expect(await settle(id)).toEqual({ kind: "wait" });
      await api().ok("POST", `/v1/pipeline-runs/${id}/approve`, { comment });
      if (comment === "better than 1") await promote(model, 2);
      await settle(id);
    }
    const approvals = (await timeline(id)).filter(({ type }) => type === "approved");
    expect(approvals.map(({ message }) => message)).toEqual(["better than 1", "better than 2"]);
  });

  test("a candidate that somebody put into production meanwhile passes the gate, and the run says so", async () => {
    const model = "by-hand";
    const { name } = await create(gated(runTemplate(model)));
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, model, 1);
    await promote(model, 1);
    expect(await settle(id)).toEqual({ kind: "wait" });
    await finishEvaluations(id, { candidate: 40 });
    expect(await settle(id)).toMatchObject({ kind: "promote", version: 1, expected: 1 });
    expect((await timeline(id)).find(({ type, step }) => type === "step.done" && step === "gate")?.message).toBe(
      "by-hand@1 is in production already: there is nothing to hold it against",
    );
  });
});
