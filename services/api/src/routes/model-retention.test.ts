import { SweepSpec, type Evaluation, type Model, type RetentionOutcome } from "@drydock/spec";
import { eq, sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { onEachDatabase, useApi } from "../../test/support/api.ts";
import { registerModel } from "../../test/support/registered-model.ts";
import { markRemoved } from "../registry/apply-retention.ts";
import { holdModel } from "../registry/change-model.ts";
import { EvaluationStore } from "../store/evaluation-store.ts";
import { evaluations, models, pipelineRuns, pipelines, runs, sweeps } from "../store/schema.ts";

const aSweep = (model: string): SweepSpec =>
  SweepSpec.parse({
    name: "s",
    run: { model },
    space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 } },
    search: { kind: "random", trials: 2 },
  });

onEachDatabase("retention", (location) => {
  const api = useApi(location);
  const rule = { keepLast: 1, minimumAgeDays: 0 };

  async function made(name: string, versions: number): Promise<void> {
    for (let version = 1; version <= versions; version++) await registerModel(api(), { name, version });
  }
  const preview = async (name: string, body: unknown = rule) =>
    await api().ok<RetentionOutcome>("POST", `/v1/models/${name}/retention/preview`, body);
  const why = async (name: string, version: number) => {
    const item = (await preview(name)).items.find((each) => each.version === version)!;
    return `${item.decision}: ${item.reasons.join("; ")}`;
  };

  test("a rule is set, shown, tried and applied; a removed version says so wherever it is used", async () => {
    await made("weld", 3);
    expect(await api().refused("GET", "/v1/models/weld/retention")).toMatchObject({
      code: "no_retention_rule",
      detail:
        'model "weld" has no retention rule, so every version is kept: set one with PUT /v1/models/weld/retention',
    });
    expect(await api().ok("PUT", "/v1/models/weld/retention", rule)).toMatchObject({
      rule: { ...rule, keepStages: ["production", "staging"] },
    });
    const dry = await api().ok<RetentionOutcome>("POST", "/v1/models/weld/retention/preview");
    expect(dry).toMatchObject({ isApplied: false, sizeBytes: 2 * 710 });
    expect(dry.items.map(({ decision }) => decision)).toEqual(["keep", "remove", "remove"]);
    expect(await api().ok("GET", "/v1/models/weld/versions/1")).toMatchObject({ filesRemovedAt: null });

    await api().ok("POST", "/v1/models/weld/retention/apply", {});
    const left: string[] = [];
    for await (const { key } of api().storage.list("models/weld/")) left.push(key);
    expect(left.every((key) => key.startsWith("models/weld/3/"))).toBe(true);
    const { filesRemovedAt } = await api().ok<Model>("GET", "/v1/models/weld/versions/1");
    const sentence = `the files of weld@1 were removed by the retention rule of weld on ${filesRemovedAt!.slice(0, 10)}: use another version, or make it again from its lineage`;
    const dataset = await api().readyDataset();
    for (const [method, url, body] of [
      ["GET", "/v1/models/weld/versions/1/archive", undefined],
      ["GET", "/v1/models/weld/versions/1/files/adapter_config.json", undefined],
      ["POST", "/v1/models/weld/versions/1/stage", { to: "production" }],
      ["POST", "/v1/models/weld/versions/1/stage", { to: "staging" }],
      ["POST", "/v1/models/weld/versions/1/verification", {}],
      ["PUT", "/v1/models/weld/aliases/line-4", { version: 1 }],
      ["POST", "/v1/evaluations", { model: "weld@1", dataset, task: "vqa" }],
      ["POST", "/v1/runs", { name: "again", model: "weld@1", dataset, task: "vqa" }],
    ] as const)
      expect(await api().refused(method, url, { body })).toMatchObject({
        status: 409,
        code: "model_files_removed",
        detail: sentence,
      });
    expect(await why("weld", 1)).toMatch(/^removed-before: removed on /);
    expect(await api().ok("GET", "/v1/models/weld/versions/latest")).toMatchObject({ version: 3 });
  });

  test("applying again removes what an interrupted try left behind", async () => {
    await made("again", 2);
    await api().ok("PUT", "/v1/models/again/retention", rule);
    await api().ok("POST", "/v1/models/again/retention/apply");
    await api().storage.put("models/again/1/adapter_model.safetensors", "left");
    await api().ok("POST", "/v1/models/again/retention/apply");
    expect(await api().storage.head("models/again/1/adapter_model.safetensors")).toBeNull();
  });

  test("an alias and the version that a rollback goes back to are kept", async () => {
    await made("kept", 5);
    await api().ok("PUT", "/v1/models/kept/aliases/line-4", { version: 1 });
    for (const version of [2, 3])
      await api().ok("POST", `/v1/models/kept/versions/${version}/stage`, { to: "production" });
    expect(await why("kept", 1)).toBe('keep: the alias "line-4" means it');
    expect(await why("kept", 2)).toBe("keep: a rollback would go back to it");
    expect(await why("kept", 3)).toBe('keep: in stage production; the alias "production" means it');
    expect(await why("kept", 4)).toMatch(/^remove/);
  });

  test("runs, evaluations, sweeps and pipelines in progress keep what they use, until they are over", async () => {
    await made("busy", 6);
    const { database } = api().services;
    const { id: runId } = await api().submitRun();
    await database
      .update(runs)
      .set({ spec: sql`jsonb_set(${runs.spec}, '{model}', '"busy@1"')` })
      .where(eq(runs.id, runId));
    const dataset = await api().readyDataset();
    const evaluation = await api().ok<{ id: string }>("POST", "/v1/evaluations", {
      model: "busy@2",
      dataset,
      task: "vqa",
    });
    await database.insert(sweeps).values({
      id: "sweep_1",
      name: "s",
      state: "running",
      message: "",
      spec: aSweep("busy@3"),
      maxParallel: 1,
    });
    await database.insert(pipelines).values({ id: "pipe_1", name: "nightly", state: "enabled", spec: {} as never });
    await database.insert(pipelineRuns).values({
      id: "prun_1",
      pipelineId: "pipe_1",
      number: 1,
      state: "running",
      message: "",
      triggerKey: "t",
      trigger: { type: "manual", detail: "" },
      spec: {} as never,
      results: { done: [], startedAt: {}, candidate: "busy@4" },
    });
    expect(await why("busy", 1)).toBe(`keep: run ${runId}, which is not over, uses it`);
    expect(await why("busy", 2)).toBe(`keep: evaluation ${evaluation.id}, which is not over, scores it`);
    expect(await why("busy", 3)).toBe("keep: sweep sweep_1, which is not over, uses it or has made it");
    expect(await why("busy", 4)).toBe("keep: pipeline run prun_1, which is not over, uses it or has made it");
    expect(await why("busy", 5)).toMatch(/^remove/);

    await database.update(runs).set({ state: "failed" }).where(eq(runs.id, runId));
    await database.update(evaluations).set({ state: "failed" }).where(eq(evaluations.id, evaluation.id));
    await database.update(sweeps).set({ endedAt: new Date() });
    await database.update(pipelineRuns).set({ endedAt: new Date() });
    for (const version of [1, 2, 3, 4]) expect(await why("busy", version)).toMatch(/^remove/);
    await database.update(pipelines).set({ spec: { model: "busy@4" } as never });
    expect(await why("busy", 4)).toBe('keep: pipeline "nightly" names it');
  });

  test("a version that a sweep in progress has made, or that a run warm-starts from, is kept", async () => {
    const { id: trial } = await api().submitRun({ name: "swept" });
    const { id: maker } = await api().submitRun({ name: "swept" });
    const { database } = api().services;
    await registerModel(api(), { name: "swept", version: 1, runId: trial });
    await registerModel(api(), { name: "swept", version: 2, runId: maker });
    await registerModel(api(), { name: "swept", version: 3 });
    await database
      .update(runs)
      .set({ state: "succeeded", parent: { kind: "sweep", id: "sweep_2", part: "1" } })
      .where(eq(runs.id, trial));
    await database
      .insert(sweeps)
      .values({ id: "sweep_2", name: "s", state: "running", message: "", spec: aSweep("weld"), maxParallel: 1 });
    const { id: warm } = await api().submitRun({ name: "warm" });
    await database
      .update(runs)
      .set({ spec: sql`${runs.spec} || ${JSON.stringify({ warmStart: { runId: maker } })}::jsonb` })
      .where(eq(runs.id, warm));
    expect(await why("swept", 1)).toBe("keep: sweep sweep_2, which is not over, uses it or has made it");
    expect(await why("swept", 2)).toBe(`keep: run ${warm}, which is not over, uses it`);
  });

  test("a full model that an adapter is put on is kept while the adapter is", async () => {
    for (const version of [1, 2, 3]) await registerModel(api(), { name: "whole", version, kind: "full" });
    await registerModel(api(), { name: "thin", version: 1, lineage: { base: "whole@1" } });
    expect(await why("whole", 1)).toBe("keep: the adapter thin@1 is put on it");
    await api().services.database.update(models).set({ filesRemovedAt: new Date() }).where(eq(models.name, "thin"));
    expect(await why("whole", 1)).toMatch(/^remove/);
  });

  test("whoever writes a reference while the rule is applied is seen by it, or sees what it removed", async () => {
    await made("raced", 3);
    const { database } = api().services;
    const dataset = await api().readyDataset();
    await api().ok("PUT", "/v1/models/raced/retention", rule);
    const { spec } = await api().ok<Evaluation>("POST", "/v1/evaluations", { model: "raced@3", dataset, task: "vqa" });
    const apply = async () =>
      await database.transaction(
        async (tx) => await markRemoved(tx, { name: "raced", actor: "tester", now: new Date() }),
      );
    const held = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const writing = database.transaction(async (tx) => {
      await holdModel(tx, "raced@1");
      held.resolve();
      await goOn.promise;
      await new EvaluationStore(tx).insert("eval_raced", { ...spec, model: "raced@1" });
    });
    await held.promise;
    const applying = apply();
    goOn.resolve();
    await writing;
    const { items } = await applying;
    expect(items.map(({ version, decision }) => [version, decision])).toEqual([
      [3, "keep"],
      [2, "remove"],
      [1, "keep"],
    ]);
    await expect(database.transaction(async (tx) => await holdModel(tx, "raced@2"))).rejects.toThrow(
      "the files of raced@2 were removed by the retention rule of raced",
    );
  });

  test("setting and applying a rule needs the scope admin, trying it does not", async () => {
    await made("scoped", 1);
    const { secret } = await api().ok<{ secret: string }>("POST", "/v1/keys", { name: "trainer", scopes: ["submit"] });
    const url = "/v1/models/scoped/retention";
    for (const [method, path, body] of [
      ["PUT", url, rule],
      ["POST", `${url}/apply`, {}],
      ["POST", "/v1/models/scoped/versions/1/manifest", {}],
    ] as const)
      expect(await api().refused(method, path, { body, key: secret })).toMatchObject({
        status: 403,
        detail: 'this API key lacks the scope "admin" (it has submit): use another key',
      });
    expect((await api().send("POST", `${url}/preview`, { body: rule, key: secret })).statusCode).toBe(200);
  });

  test("a rule that makes no sense is refused, and one for a model that is not there, too", async () => {
    await made("rules", 1);
    expect(await api().refused("PUT", "/v1/models/rules/retention", { body: { keepLast: 0 } })).toMatchObject({
      errors: [{ path: "keepLast" }],
    });
    expect(await api().refused("PUT", "/v1/models/nobody/retention", { body: rule })).toMatchObject({
      status: 404,
      detail: 'there is no model "nobody": list them with GET /v1/models',
    });
  });

  test("once an hour what is automatic is applied, and what nobody needs any more goes", async () => {
    for (const name of ["auto", "asked"]) {
      await made(name, 2);
      await api().ok("PUT", `/v1/models/${name}/retention`, { ...rule, automatic: name === "auto" });
    }
    const now = new Date();
    const daysAgo = (days: number): string => new Date(now.getTime() - days * 86_400_000).toISOString();
    const observed = [1, 89, 91].map((days) => ({ key: `d${days}`, time: daysAgo(days), answer: "a", truth: "a" }));
    await api().ok("POST", "/v1/models/auto/observations", { version: 2, observations: observed });
    await api().services.housekeeping.tidy(now);
    const removed = async (name: string): Promise<boolean[]> =>
      await Promise.all(
        [1, 2].map(
          async (version) =>
            (await api().ok<Model>("GET", `/v1/models/${name}/versions/${version}`)).filesRemovedAt !== null,
        ),
      );
    expect(await removed("auto")).toEqual([true, false]);
    expect(await removed("asked")).toEqual([false, false]);
    expect(await api().storage.head("models/auto/1/drydock.json")).toBeNull();
    const kept = await api().services.observations.since({ name: "auto", version: 2 }, new Date(0));
    expect(kept.map(({ key }) => key)).toEqual(["d1", "d89"]);
  });
});
