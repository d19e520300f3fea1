import { isDrydockError } from "@drydock/kit";
import type { Model, ModelEvent } from "@drydock/spec";
import { describe, expect, test } from "vitest";
import { onEachDatabase, useApi, type TestApi } from "../../test/support/api.ts";
import { registerModel } from "../../test/support/registered-model.ts";
import type { Page } from "../pages.ts";
import { promoteModel } from "./promote-model.ts";
import { rollBack } from "./roll-back.ts";

onEachDatabase("promotion", (location) => {
  const api = useApi(location);

  async function made(name: string, versions: number): Promise<void> {
    for (let version = 1; version <= versions; version++) await registerModel(api(), { name, version });
  }
  const promote = async (name: string, version: number, key: string) =>
    await api().services.database.transaction(
      async (tx) => await promoteModel(tx, { name, version, to: "production", actor: "tester", key, message: "" }),
    );
  const back = async (name: string, key: string, from?: number) =>
    await api().services.database.transaction(
      async (tx) => await rollBack(tx, { name, actor: "tester", key, message: "It got worse.", from }),
    );
  const stages = async (name: string): Promise<string[]> => {
    const { items } = await api().ok<Page<Model>>("GET", `/v1/models?name=${name}`);
    return items.map(
      ({ version, stage, aliases }) => `${version} ${stage}${aliases.map((alias) => ` @${alias}`).join("")}`,
    );
  };

  test("a promotion moves the alias and archives the version before", async () => {
    await made("weld", 2);
    expect(await promote("weld", 1, "a")).toMatchObject({ version: 1, previous: null, isChanged: true });
    expect(await stages("weld")).toEqual(["2 candidate", "1 production @production"]);
    expect(await promote("weld", 2, "b")).toEqual({
      name: "weld",
      version: 2,
      previous: 1,
      isChanged: true,
      isReplay: false,
    });
    expect(await stages("weld")).toEqual(["2 production @production", "1 archived"]);
    const { items } = await api().ok<Page<ModelEvent>>("GET", "/v1/models/weld/history");
    expect(
      items.slice(0, 2).map(({ version, type, from, to, message }) => ({ version, type, from, to, message })),
    ).toEqual([
      {
        version: 1,
        type: "stage.changed",
        from: "production",
        to: "archived",
        message: "weld@2 took its place in production.",
      },
      {
        version: 2,
        type: "model.promoted",
        from: "1",
        to: "2",
        message: "weld@2 is in production; weld@1 was there before.",
      },
    ]);
  });

  test("a key promotes once, whatever happened since, and even when nothing was to be done", async () => {
    await made("once", 3);
    await promote("once", 1, "first");
    await promote("once", 2, "second");
    expect(await promote("once", 1, "first")).toEqual({
      name: "once",
      version: 1,
      previous: null,
      isChanged: true,
      isReplay: true,
    });
    expect(await promote("once", 2, "no-change")).toMatchObject({ previous: 2, isChanged: false, isReplay: false });
    await promote("once", 3, "third");
    expect(await promote("once", 2, "no-change")).toMatchObject({ isReplay: true });
    expect(await stages("once")).toEqual(["3 production @production", "2 archived", "1 archived"]);
  });

  test("a rollback goes to the version before, the next one further back, and each key works once", async () => {
    await made("back", 4);
    for (const version of [1, 2, 3]) await promote("back", version, `p${version}`);
    expect(await back("back", "r1")).toEqual({
      name: "back",
      version: 2,
      previous: 3,
      isChanged: true,
      isReplay: false,
    });
    expect(await back("back", "r1")).toMatchObject({ version: 2, previous: 3, isReplay: true });
    expect(await back("back", "r2")).toMatchObject({ version: 1, previous: 2 });
    await promote("back", 4, "p4");
    expect(await back("back", "r3")).toMatchObject({ version: 1, previous: 4 });
    expect(await stages("back")).toEqual(["4 archived", "3 archived", "2 archived", "1 production @production"]);
    const refused = await back("back", "r4").catch((error: unknown) => error);
    expect(isDrydockError(refused) && [refused.code, refused.message]).toEqual([
      "nothing_to_roll_back_to",
      "no version of back was in production before back@1: promote another one, or archive this one",
    ]);
  });

  test("a rollback that was decided over another version comes too late", async () => {
    await made("late", 3);
    for (const version of [1, 2, 3]) await promote("late", version, `p${version}`);
    await expect(back("late", "r", 2)).rejects.toThrow(
      "late@2 is no longer in production (late@3 is): nothing was rolled back",
    );
    expect((await stages("late"))[0]).toBe("3 production @production");
  });

  test("promotions at the same time leave one version in production, and a history without a gap", async () => {
    await made("race", 6);
    await Promise.all([1, 2, 3, 4, 5, 6].map(async (version) => await promote("race", version, `p${version}`)));
    const inProduction = (await stages("race")).filter((line) => line.includes("production"));
    expect(inProduction).toHaveLength(1);
    expect(inProduction[0]).toContain("@production");
    const { items } = await api().ok<Page<ModelEvent>>("GET", "/v1/models/race/history?limit=200");
    const promotions = items.filter(({ type }) => type === "model.promoted").toReversed();
    expect(promotions.map(({ from }) => from)).toEqual([null, ...promotions.slice(0, -1).map(({ to }) => to)]);
  });

  test("the same promotion twice at the same time is one", async () => {
    await made("twice", 1);
    const both = await Promise.all([promote("twice", 1, "k"), promote("twice", 1, "k")]);
    expect(both.filter(({ isReplay }) => isReplay)).toHaveLength(1);
    expect(both.every(({ isChanged }) => isChanged)).toBe(true);
  });

  describe("over the internal routes", () => {
    const verificationOf = async (instance: TestApi, name: string, version: number) =>
      await instance.ok<object>("POST", `/v1/models/${name}/versions/${version}/verification`);

    test("a workflow promotes what it has verified, once a key", async () => {
      await made("flow", 2);
      const order = { key: "prun_1/promote", actor: "pipeline", message: "The gate passed." };
      const url = "/internal/v1/models/flow/versions/2/promote";
      const body = { ...order, verification: await verificationOf(api(), "flow", 2) };
      expect(await api().ok("POST", url, body)).toMatchObject({ version: 2, isReplay: false });
      expect(await api().ok("POST", url, body)).toMatchObject({ version: 2, isReplay: true });
      expect(await api().ok("GET", "/internal/v1/models/flow/versions/production")).toMatchObject({ version: 2 });
      expect(await api().refused("POST", "/internal/v1/models/flow/versions/1/promote", { body })).toMatchObject({
        code: "verification_mismatch",
        detail: "the verification is of flow@2, not of flow@1: verify that one",
      });
      expect(
        await api().refused("POST", "/internal/v1/models/flow/rollback", {
          body: { key: "prun_1/rollback", actor: "pipeline", message: "" },
        }),
      ).toMatchObject({ status: 409, code: "nothing_to_roll_back_to" });
    });

    test("a verification that found damage promotes nothing", async () => {
      await made("broken", 1);
      await api().storage.put("models/broken/1/adapter_model.safetensors", "weightz".repeat(100));
      const body = {
        key: "k",
        actor: "pipeline",
        message: "",
        verification: await verificationOf(api(), "broken", 1),
      };
      const problem = await api().refused("POST", "/internal/v1/models/broken/versions/1/promote", { body });
      expect(problem).toMatchObject({ status: 422, code: "model_damaged" });
      expect(problem.detail).toMatch(
        /^broken@1 cannot go to production: adapter_model\.safetensors of broken@1 is damaged: its SHA-256 is/,
      );
    });
  });
});
