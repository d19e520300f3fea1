import { expect, test } from "vitest";
import { onEachDatabase, useApi } from "../../test/support/api.ts";
import { pipelineStage } from "../../test/support/pipeline-stage.ts";
import { registerModel } from "../../test/support/registered-model.ts";
import { promoteModel } from "../registry/promote-model.ts";

onEachDatabase("pipelines that watch a model in use", (location) => {
  const api = useApi(location);
  const {
    create,
    trigger,
    read,
    timeline,
    settle,
    finishTraining,
    promoteCandidate,
    finishEvaluations,
    gated,
    runTemplate,
  } = pipelineStage(api);

  test("live answers that get worse put the version before into production again, by itself and once", async () => {
    const watch = { type: "watch", metric: "exact-match", maximumDrop: 10, windowSeconds: 3600, minimumSamples: 4 };
    const { name } = await create(
      gated(runTemplate("weld-w"), { withoutProduction: "pass" }, [{ type: "promote" }, watch]),
    );
    const promoted = async (version: number): Promise<string> => {
      const { id } = await trigger(name);
      await settle(id);
      await finishTraining(id, "weld-w", version);
      await settle(id);
      await finishEvaluations(id, { candidate: 40, production: 40 });
      expect((await promoteCandidate(id, await settle(id))).statusCode).toBe(200);
      expect(await settle(id)).toEqual({ kind: "wait" });
      return id;
    };
    const first = await promoted(1);
    await api().ok("POST", `/v1/pipeline-runs/${first}/cancel`, {});
    await settle(first);
    const id = await promoted(2);
    const { observations } = api().services;
    let reads = 0;
    const since = observations.since.bind(observations);
    observations.since = async (...asked) => {
      reads++;
      return await since(...asked);
    };
    const report = async (from: number, to: number, right: number): Promise<object> =>
      await api().ok("POST", "/v1/models/weld-w/observations", {
        observations: Array.from({ length: to - from }, (_, index) => ({
          key: `camera-${from + index}`,
          time: new Date().toISOString(),
          answer: from + index < right ? "a" : "b",
          truth: "a",
        })),
      });
    expect(await report(0, 3, 0)).toEqual({ model: "weld-w", version: 2, received: 3, repeated: 0 });
    for (let look = 0; look < 5; look++) expect(await settle(id)).toEqual({ kind: "wait" });
    // Asked every second for a day, answers are read when there are new ones, and once a minute.
    expect(reads).toBeLessThan(4);
    expect(await report(0, 10, 0)).toMatchObject({ received: 7, repeated: 3 });
    expect(await api().ok("GET", "/v1/models/weld-w/observations/summary")).toMatchObject({
      version: 2,
      observations: 10,
      withTruth: 10,
      scores: { "exact-match": 0 },
    });
    expect(await settle(id)).toEqual({ kind: "over" });
    expect(await read(id)).toMatchObject({
      state: "rolled-back",
      message: "live exact-match of weld-w@2 fell to 0 on 10 answers, below 70: weld-w@1 is in production again",
    });
    expect(await api().ok("GET", "/v1/models/weld-w/versions/production")).toMatchObject({ version: 1 });
  });

  test("a person's rollback ends the run that watches; another version in production ends the watch and is said", async () => {
    const watch = { type: "watch", metric: "exact-match", minimum: 1 };
    const { name } = await create(
      gated(runTemplate("weld-v"), { withoutProduction: "pass" }, [{ type: "promote" }, watch]),
    );
    const watching = async (version: number): Promise<string> => {
      const { id } = await trigger(name);
      await settle(id);
      await finishTraining(id, "weld-v", version);
      await settle(id);
      await finishEvaluations(id, { candidate: 40, production: 40 });
      expect((await promoteCandidate(id, await settle(id))).statusCode).toBe(200);
      expect(await settle(id)).toEqual({ kind: "wait" });
      return id;
    };
    const first = await watching(1);
    await registerModel(api(), { name: "weld-v", version: 2 });
    await api().services.database.transaction(async (tx) => {
      const order = { name: "weld-v", version: 2, to: "production", actor: "test", key: "other", message: "" } as const;
      await promoteModel(tx, order);
    });
    expect(await settle(first)).toEqual({ kind: "over" });
    expect(await read(first)).toMatchObject({
      state: "succeeded",
      message: "weld-v@1 was put into production, where weld-v@2 is now",
    });
    expect((await timeline(first)).find(({ type, step }) => type === "step.done" && step === "watch")?.message).toBe(
      "weld-v@1 is no longer in production, weld-v@2 is: there is nothing left to watch",
    );

    const second = await watching(3);
    await api().ok("POST", `/v1/pipeline-runs/${second}/rollback`, { comment: "it answers nonsense" });
    expect(await settle(second)).toEqual({ kind: "over" });
    expect(await read(second)).toMatchObject({ state: "rolled-back", message: "rolled back to weld-v@2" });
    expect((await timeline(second)).slice(-2).map(({ type }) => type)).toEqual(["rolled-back", "ended"]);
  });

  test.each([
    ["half a character", { answer: "cut \ud83d" }, "invalid_text", "half a character"],
    ["a time before all calendars", { time: "0000-01-01T00:00:00.000Z" }, "invalid_time", "a time in the request"],
  ])("an observation with %s is refused with what to change", async (_what, change, code, detail) => {
    await registerModel(api(), { name: "weld-u", version: 1 });
    const observations = [{ key: "1", time: new Date().toISOString(), answer: "a", ...change }];
    const body = { version: 1, observations };
    const problem = await api().refused("POST", "/v1/models/weld-u/observations", { body });
    expect(problem).toMatchObject({ status: 400, code });
    expect(problem.detail).toContain(detail);
  });

  test("observations of a time to come, or of a model that is not there, are refused", async () => {
    const observations = [{ key: "1", time: "2999-01-01T00:00:00.000Z", answer: "a" }];
    expect(await api().refused("POST", "/v1/models/weld-w/observations", { body: { observations } })).toMatchObject({
      code: "observation_in_future",
      detail: "observation 0 is of 2999-01-01T00:00:00.000Z, which is still to come: check the clock of the reporter",
    });
    const now = [{ key: "1", time: new Date().toISOString(), answer: "a" }];
    expect(
      (await api().refused("POST", "/v1/models/nobody/observations", { body: { observations: now } })).status,
    ).toBe(404);
  });
});
