import type { Pipeline, PipelineDryRun, PipelineRun } from "@drydock/spec";
import { eq, sql } from "drizzle-orm";
import { expect, test, vi } from "vitest";
import { onEachDatabase, reportOf, statisticsOf, useApi } from "../../test/support/api.ts";
import { pipelineStage } from "../../test/support/pipeline-stage.ts";
import { promoteModel } from "../registry/promote-model.ts";
import { approve } from "../pipelines/steps/approve.ts";
import { pipelineRuns, pipelines, runs } from "../store/schema.ts";

onEachDatabase("pipelines", (location) => {
  const api = useApi(location);
  const {
    create,
    body,
    trigger,
    advance,
    read,
    timeline,
    settle,
    finishTraining,
    promoteCandidate,
    finishEvaluations,
    gated,
    runTemplate,
  } = pipelineStage(api);

  test("a run goes step by step, each thing once, however often it is asked for; the timeline has no gap", async () => {
    const { name } = await create(
      gated(runTemplate("weld-a"), { withoutProduction: "pass" }, [{ type: "promote" }, { type: "deploy" }]),
    );
    const { id } = await trigger(name);
    expect(await settle(id)).toEqual({ kind: "wait" });
    expect(await settle(id)).toEqual({ kind: "wait" });
    const { runId } = (await read(id)).results;
    expect(await api().ok("GET", `/v1/runs/${runId}`)).toMatchObject({
      parent: { kind: "pipeline", id, part: "train" },
    });
    await finishTraining(id, "weld-a", 1);
    expect(await settle(id)).toEqual({ kind: "wait" });
    await finishEvaluations(id, { candidate: 40 });
    const order = await settle(id);
    expect(order).toMatchObject({ kind: "promote", name: "weld-a", version: 1, key: `${id}/promote` });
    expect((await promoteCandidate(id, order)).statusCode).toBe(200);
    // The controller that was ended before it heard the answer asks again.
    expect((await promoteCandidate(id, order)).json()).toMatchObject({ status: 409, code: "pipeline_run_moved_on" });
    expect(await settle(id)).toEqual({ kind: "over" });
    expect(await read(id)).toMatchObject({ state: "succeeded", message: "weld-a@1 is in production", step: null });
    expect(await api().ok("GET", "/v1/models/weld-a/versions/live")).toMatchObject({ version: 1 });
    const events = await timeline(id);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
    expect(events.map(({ type, step }) => `${type} ${step}`)).toEqual([
      "triggered null",
      ...["train", "evaluate", "gate", "promote", "deploy"].flatMap((step) => [
        `step.started ${step}`,
        `step.done ${step}`,
      ]),
      "ended null",
    ]);
  });

  test("a gate that is not passed ends the run with both scores; without production it says how the first gets through", async () => {
    const first = await create(gated(runTemplate("weld-b")));
    const { id } = await trigger(first.name);
    await settle(id);
    await finishTraining(id, "weld-b", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    await settle(id);
    expect(await read(id)).toMatchObject({
      state: "refused",
      message:
        'the gate refused weld-b@1: there is no production model yet to compare with: promote a first version by hand, or set withoutProduction to "pass"',
    });

    await api().services.database.transaction(async (tx) => {
      await promoteModel(tx, {
        name: "weld-b",
        version: 1,
        to: "production",
        actor: "test",
        key: "first",
        message: "first",
      });
    });
    const second = await trigger(first.name);
    await settle(second.id);
    await finishTraining(second.id, "weld-b", 2);
    await settle(second.id);
    await finishEvaluations(second.id, { candidate: 20, production: 40 });
    expect(await settle(second.id)).toEqual({ kind: "over" });
    const refused = await read(second.id);
    expect(refused).toMatchObject({
      state: "refused",
      message:
        "the gate refused weld-b@2: candidate.exact-match is 40, production's is 80 (50 rows): it must be at least 80",
      results: { production: "weld-b@1", gate: { passed: false } },
    });
  });

  test("an approval is waited for, noted with who and why, and has a time", async () => {
    const { name } = await create(
      gated(runTemplate("weld-c"), { withoutProduction: "pass" }, [{ type: "approve" }, { type: "promote" }]),
    );
    const { id } = await trigger(name);
    expect(await api().refused("POST", `/v1/pipeline-runs/${id}/approve`, { body: {} })).toMatchObject({
      code: "nothing_to_approve",
      detail: `run 1 of pipeline ${name} does not wait for an approval: it is running at step "train"`,
    });
    await settle(id);
    await finishTraining(id, "weld-c", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    expect(await settle(id)).toEqual({ kind: "wait" });
    for (let time = 0; time < 2; time++)
      await api().ok("POST", `/v1/pipeline-runs/${id}/approve`, { comment: "looks right" });
    expect(await settle(id)).toMatchObject({ kind: "promote" });
    expect((await timeline(id)).filter(({ type }) => type === "approved")).toMatchObject([
      { step: "approve", message: "looks right" },
    ]);

    const [row] = await api().services.database.select().from(pipelineRuns).where(eq(pipelineRuns.id, id));
    const waiting = { ...row!, results: { ...row!.results, approval: undefined } };
    const later = new Date(Date.parse(waiting.results.startedAt["approve"]!) + 61_000);
    expect(approve(waiting, { type: "approve", timeoutSeconds: 60, onTimeout: "refuse" }, later)).toMatchObject({
      kind: "end",
      state: "refused",
      message: "nobody decided about weld-c@1 within 60 s: it is refused, as the pipeline says",
    });
    expect(approve(waiting, { type: "approve", timeoutSeconds: 60, onTimeout: "promote" }, later)).toMatchObject({
      kind: "done",
    });
    expect(approve(waiting, { type: "approve", timeoutSeconds: 90, onTimeout: "promote" }, later)).toEqual({
      kind: "wait",
    });
  });

  test("a run that is cancelled while its gate refuses it is carried on to its end", async () => {
    const { name } = await create(gated(runTemplate("weld-x")));
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, "weld-x", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    const { storage } = api();
    const read_ = storage.read.bind(storage);
    storage.read = async (...asked) => {
      storage.read = read_;
      await api().ok("POST", `/v1/pipeline-runs/${id}/cancel`, {});
      return await read_(...asked);
    };
    expect(await settle(id)).toEqual({ kind: "over" });
    expect(await read(id)).toMatchObject({ state: "cancelled" });
  });

  test("a gate that is asked for again while it is computed is computed once", async () => {
    const { name } = await create(gated(runTemplate("weld-w"), { withoutProduction: "pass" }));
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, "weld-w", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    const computed = vi.spyOn(api().services.statistics, "gate");
    try {
      const [first, second] = await Promise.all([settle(id), settle(id)]);
      expect(first).toMatchObject({ kind: "promote" });
      expect(second).toEqual(first);
      expect(computed).toHaveBeenCalledTimes(1);
    } finally {
      computed.mockRestore();
    }
    expect((await timeline(id)).filter(({ type, step }) => type === "step.done" && step === "gate")).toHaveLength(1);
  });

  test("a run that is cancelled while its candidate's files are verified promotes nothing", async () => {
    const { name } = await create(gated(runTemplate("weld-y"), { withoutProduction: "pass" }));
    const { id } = await trigger(name);
    await settle(id);
    await finishTraining(id, "weld-y", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    const order = await settle(id);
    await api().ok("POST", `/v1/pipeline-runs/${id}/cancel`, {});
    expect((await promoteCandidate(id, order)).json()).toMatchObject({ status: 409, code: "pipeline_run_moved_on" });
    expect(await settle(id)).toEqual({ kind: "over" });
    expect(await read(id)).toMatchObject({ state: "cancelled" });
    expect((await api().refused("GET", "/v1/models/weld-y/versions/production")).code).toBe("model_not_found");
  });

  test("while a run is open another trigger is left out, waits, or takes its place, as the pipeline says", async () => {
    const skip = await create();
    await trigger(skip.name);
    expect(await trigger(skip.name)).toMatchObject({
      number: 2,
      state: "skipped",
      message: "left out: run 1 is still open",
    });

    const queue = await create({ overlap: "queue" });
    const first = await trigger(queue.name);
    const second = await trigger(queue.name);
    expect(second).toMatchObject({ state: "queued", message: "waits until run 1 has ended" });
    expect(await advance(second.id)).toEqual({ kind: "wait" });
    await api().ok("POST", `/v1/pipeline-runs/${first.id}/cancel`, {});
    expect(await settle(first.id)).toEqual({ kind: "over" });
    expect(await read(second.id)).toMatchObject({ state: "running" });

    const replace = await create({ overlap: "cancel-running" });
    const old = await trigger(replace.name);
    await settle(old.id);
    const next = await trigger(replace.name);
    expect(await read(old.id)).toMatchObject({ state: "cancelling", message: "a newer run takes its place" });
    expect(await advance(old.id)).toEqual({ kind: "wait" });
    await api()
      .services.database.update(runs)
      .set({ state: "cancelled" })
      .where(eq(runs.id, (await read(old.id)).results.runId!));
    expect(await advance(old.id)).toEqual({ kind: "over" });
    expect(await read(old.id)).toMatchObject({ state: "cancelled" });
    expect(await read(next.id)).toMatchObject({ state: "running" });
  });

  test("a budget of runs a day is kept to", async () => {
    const { name } = await create({ overlap: "queue", budget: { runsPerDay: 1 } });
    await trigger(name);
    expect(await trigger(name)).toMatchObject({
      state: "skipped",
      message: "left out: 1 runs in the last 24 hours are the budget of 1",
    });
  });

  test("a schedule starts one run a time, whichever server looks, and catches up after a pause of all", async () => {
    const { name } = await create({
      overlap: "queue",
      catchUp: "all",
      triggers: [{ type: "cron", expression: "0 * * * *" }],
    });
    const { schedules, database } = api().services;
    await database
      .update(pipelines)
      .set({ scheduledUntil: new Date("2026-11-23T00:30:00Z") })
      .where(eq(pipelines.name, name));
    const now = new Date("2026-11-23T03:10:00Z");
    await Promise.all([schedules.look(now), schedules.look(now)]);
    const { items } = await api().ok<{ items: PipelineRun[] }>("GET", `/v1/pipelines/${name}/runs`);
    expect(items.map(({ number, trigger: { detail } }) => [number, detail])).toEqual([
      [3, "its schedule, at 2026-11-23T03:00:00.000Z"],
      [2, "its schedule, at 2026-11-23T02:00:00.000Z"],
      [1, "its schedule, at 2026-11-23T01:00:00.000Z"],
    ]);
    await api().ok("POST", `/v1/pipelines/${name}/pause`);
    await schedules.look(new Date("2026-11-23T09:10:00Z"));
    await api().ok("POST", `/v1/pipelines/${name}/resume`);
    await schedules.look(new Date("2026-11-23T09:20:00Z"));
    expect((await api().ok<Pipeline>("GET", `/v1/pipelines/${name}`)).runs).toBe(3);
  });

  test("a new version of the data set starts it once; one that fails its checks refuses the run with the reason", async () => {
    const { name } = await create({ triggers: [{ type: "dataset" }] });
    const { dataset } = (await api().ok<Pipeline>("GET", `/v1/pipelines/${name}`)).spec;
    await api().upload(dataset, { "rows.csv": "image,question,answer\n" });
    const ready = {
      state: "ready",
      reason: null,
      digest: "d".repeat(64),
      statistics: statisticsOf(200),
      report: reportOf(200),
    };
    await api().ok("PUT", `/internal/v1/datasets/${dataset}/versions/2`, ready);
    const { items } = await api().ok<{ items: PipelineRun[] }>("GET", `/v1/pipelines/${name}/runs`);
    expect(items).toMatchObject([{ number: 1, trigger: { type: "dataset", detail: `${dataset}@2 is ready` } }]);
    await settle(items[0]!.id);
    expect((await timeline(items[0]!.id)).find(({ type }) => type === "step.done")?.message).toContain(
      `${dataset}@2 is ready: 200 rows`,
    );
  });

  test("a pipeline follows another one's success", async () => {
    const first = await create(gated(runTemplate("weld-d"), { withoutProduction: "pass" }, []));
    const second = await create({ triggers: [{ type: "pipeline", pipeline: first.name }] });
    const { id } = await trigger(first.name);
    await settle(id);
    await finishTraining(id, "weld-d", 1);
    await settle(id);
    await finishEvaluations(id, { candidate: 40 });
    for (let time = 0; time < 2; time++) expect(await settle(id)).toEqual({ kind: "over" });
    const { items } = await api().ok<{ items: PipelineRun[] }>("GET", `/v1/pipelines/${second.name}/runs`);
    expect(items).toMatchObject([{ trigger: { detail: `run 1 of pipeline ${first.name} succeeded` } }]);
  });

  test("a dry run says what would happen and what is missing, and starts nothing", async () => {
    const { name, spec } = await create({
      ...gated(runTemplate("weld-e")),
      triggers: [{ type: "cron", expression: "0 3 * * *" }],
    });
    const dry = await api().ok<PipelineDryRun>("POST", `/v1/pipelines/${name}/dry-run`, {});
    expect(dry).toMatchObject({ dataset: `${spec.dataset}@1`, model: "weld-e", production: null });
    expect(dry.steps.map(({ step }) => step)).toEqual(["train", "evaluate", "gate", "promote"]);
    expect(dry.steps[2]!.what).toBe("go on if the candidate's exact-match is at least production's");
    expect(dry.problems).toEqual([expect.stringContaining("no version of weld-e is in production")]);
    expect(dry.nextTimes).toHaveLength(5);
    expect((await api().ok<Pipeline>("GET", `/v1/pipelines/${name}`)).runs).toBe(0);
    const dear = await create({ budget: { gpuHours: 0.0001 } });
    const { problems } = await api().ok<PipelineDryRun>("POST", `/v1/pipelines/${dear.name}/dry-run`, {});
    expect(problems).toEqual([
      expect.stringMatching(/GPU hours, more than the budget of 0\.0001: raise budget\.gpuHours/),
    ]);
  });

  test("the timeline is a stream, too, that ends with the run and goes on after a line", async () => {
    const { name } = await create();
    const { id } = await trigger(name);
    await settle(id);
    const headers = { accept: "text/event-stream" };
    const stream = api().send("GET", `/v1/pipeline-runs/${id}/timeline`, { headers });
    await api().ok("POST", `/v1/pipeline-runs/${id}/cancel`, {});
    const { runId } = (await read(id)).results;
    await api().services.database.update(runs).set({ state: "cancelled" }).where(eq(runs.id, runId!));
    expect(await settle(id)).toEqual({ kind: "over" });
    const text = (await stream).body;
    const kinds = [...text.matchAll(/^event: (.+)$/gm)].map(([, kind]) => kind);
    const types = (await timeline(id)).map(({ type }) => type);
    expect(kinds).toEqual([...types, "end"]);
    const rest = await api().send("GET", `/v1/pipeline-runs/${id}/timeline`, {
      headers: { ...headers, "last-event-id": "2" },
    });
    expect([...rest.body.matchAll(/^id: (\d+)$/gm)].map(([, sequence]) => Number(sequence))).toEqual(
      types.map((_, index) => index + 1).slice(2),
    );
  });

  test("a run that fails leaves no training or evaluation going on that nobody waits for", async () => {
    const { name } = await create(gated(runTemplate("weld-z"), { withoutProduction: "pass" }));
    const training = await trigger(name);
    await settle(training.id);
    const { runId } = (await read(training.id)).results;
    await api().ok("POST", `/internal/v1/pipeline-runs/${training.id}/failed`, { message: "the run cannot go on" });
    expect(await read(training.id)).toMatchObject({ state: "failed", message: "the run cannot go on" });
    expect(await api().ok("GET", `/v1/runs/${runId}`)).toMatchObject({ reason: "cancel-requested" });
  });

  test("what the controller saw ends a run with its sentence; nothing to roll back is said so", async () => {
    const { name } = await create(gated(runTemplate("weld-f"), { withoutProduction: "pass" }));
    const { id } = await trigger(name);
    await api().ok("POST", `/internal/v1/pipeline-runs/${id}/failed`, {
      message: "weld-f@1: adapter_model.safetensors is damaged",
    });
    expect(await read(id)).toMatchObject({
      state: "failed",
      message: "weld-f@1: adapter_model.safetensors is damaged",
    });
    expect(await api().refused("POST", `/v1/pipeline-runs/${id}/rollback`, { body: {} })).toMatchObject({
      code: "nothing_promoted",
      detail: `run 1 of pipeline ${name} has promoted nothing: there is nothing to roll back`,
    });
    expect((await api().send("DELETE", `/v1/pipelines/${name}`)).statusCode).toBe(204);
    expect(await api().refused("GET", `/v1/pipelines/${name}`)).toMatchObject({ code: "pipeline_not_found" });
  });

  test("a pipeline with very many runs can be deleted", async () => {
    const { id, name } = await create();
    await api().services.database.execute(sql`
      insert into pipeline_runs (id, pipeline_id, number, state, message, trigger_key, trigger, spec, results)
      select 'prun_many_' || number, ${id}, number, 'skipped', '', 'many/' || number, '{}', '{}', '{}'
      from generate_series(1, 70000) number`);
    expect((await api().send("DELETE", `/v1/pipelines/${name}`)).statusCode).toBe(204);
  });

  test.each<[string, object, string]>([
    ["a schedule that never comes", { triggers: [{ type: "cron", expression: "0 0 31 2 *" }] }, "never comes"],
    [
      "a rule over an unknown metric",
      {
        steps: [
          { type: "train", run: runTemplate("weld-g") },
          { type: "evaluate" },
          { type: "gate", rules: ["candidate.iuo > 3"] },
        ],
      },
      'names the metric "iuo", which task "vqa" does not have',
    ],
    [
      "a rule that cannot be read",
      {
        steps: [
          { type: "train", run: runTemplate("weld-g") },
          { type: "evaluate" },
          { type: "gate", rules: ["better"] },
        ],
      },
      "there should be candidate.<metric>",
    ],
    [
      "a pipeline that is not there",
      { triggers: [{ type: "pipeline", pipeline: "nobody" }] },
      'there is no pipeline "nobody"',
    ],
    [
      "an alias that nobody may move",
      {
        steps: [
          { type: "train", run: runTemplate("weld-g") },
          { type: "promote" },
          { type: "deploy", alias: "production" },
        ],
      },
      "production",
    ],
    ["a data set that is not there", { dataset: "nothing" }, "nothing"],
  ])("%s is refused", async (_name, change, sentence) => {
    expect((await api().refused("POST", "/v1/pipelines", { body: await body(change) })).detail).toContain(sentence);
  });

  test("pipelines that would start one another in a circle are refused, also when one is changed", async () => {
    const a = await create();
    const b = await create({ triggers: [{ type: "pipeline", pipeline: a.name }] });
    const circle = { ...a.spec, triggers: [{ type: "pipeline", pipeline: b.name }] };
    expect((await api().refused("PUT", `/v1/pipelines/${a.name}`, { body: circle })).detail).toBe(
      `these pipelines would start one another for ever: ${a.name} → ${b.name} → ${a.name}`,
    );
  });
});
