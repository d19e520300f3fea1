import type { Run } from "@drydock/spec";
import { expect, test, vi } from "vitest";
import { aSpec, multipartOf, onEachDatabase, useApi } from "../../test/support/api.ts";
import type { Page } from "../pages.ts";
import { auditEntries } from "./schema.ts";

onEachDatabase("idempotency", (location) => {
  const api = useApi(location);
  const withKey = (key: string) => ({ headers: { "idempotency-key": key } });

  test("the same key and body give the same answer and one run", async () => {
    const dataset = await api().readyDataset();
    const first = await api().send("POST", "/v1/runs", { body: aSpec({ dataset, name: "once" }), ...withKey("k-1") });
    const second = await api().send("POST", "/v1/runs", { body: aSpec({ dataset, name: "once" }), ...withKey("k-1") });
    expect(second.statusCode).toBe(201);
    expect(second.json()).toEqual(first.json());
    expect(second.headers["idempotency-replayed"]).toBe("true");
    expect((await api().ok<Page<unknown>>("GET", "/v1/runs?name=once")).items).toHaveLength(1);
  });

  test("a key that comes back with another body, or at another route, is refused", async () => {
    await api().send("POST", "/v1/plans", { body: aSpec(), ...withKey("k-2") });
    expect(
      await api().refused("POST", "/v1/plans", { body: aSpec({ name: "other" }), ...withKey("k-2") }),
    ).toMatchObject({ status: 422, code: "idempotency_key_reused" });
    expect(await api().refused("POST", "/v1/datasets", { body: { name: "other" }, ...withKey("k-2") })).toMatchObject({
      status: 422,
    });
    expect(await api().refused("POST", "/v1/plans", { body: aSpec(), ...withKey("with space") })).toMatchObject({
      status: 400,
      code: "invalid_idempotency_key",
    });
  });

  test("of duplicates at the same time one wins and all get its answer", async () => {
    const dataset = await api().readyDataset();
    const answers = await Promise.all(
      Array.from(
        { length: 8 },
        async () => await api().send("POST", "/v1/runs", { body: aSpec({ dataset, name: "race" }), ...withKey("k-3") }),
      ),
    );
    expect(new Set(answers.map((answer) => answer.json<Run>().id)).size).toBe(1);
    expect(answers.every((answer) => answer.statusCode === 201)).toBe(true);
    expect(answers.filter((answer) => answer.headers["idempotency-replayed"] === undefined)).toHaveLength(1);
  });

  test("a refused request leaves its key free for the corrected one", async () => {
    await api().refused("POST", "/v1/runs", { body: aSpec({ dataset: "later" }), ...withKey("k-4") });
    await api().readyDataset("later");
    expect(
      (await api().send("POST", "/v1/runs", { body: aSpec({ dataset: "later" }), ...withKey("k-4") })).statusCode,
    ).toBe(201);
  });

  test("an upload that is sent twice with a key is kept once", async () => {
    await api().ok("POST", "/v1/datasets", { name: "twice" });
    const send = async (content: string) => {
      const { body, headers } = multipartOf({ "rows.csv": content });
      return await api().send("POST", "/v1/datasets/twice/uploads", {
        body,
        headers: { ...headers, "idempotency-key": "k-5" },
      });
    };
    const first = await send("a,b\n");
    const second = await send("a,b\n");
    expect(second.json()).toEqual(first.json());
    expect((await send("other\n")).statusCode).toBe(422);
    const keys: string[] = [];
    for await (const { key } of api().storage.list("uploads/")) if (key.endsWith("rows.csv")) keys.push(key);
    expect(keys.filter((key) => key.includes(first.json<{ id: string }>().id))).toHaveLength(1);
  });

  test("each write leaves an audit row with who and what, and a repeated one leaves none", async () => {
    await api().send("POST", "/v1/datasets", { body: { name: "audited" }, ...withKey("k-6") });
    const again = await api().send("POST", "/v1/datasets", { body: { name: "audited" }, ...withKey("k-6") });
    const rows = await api().services.database.select().from(auditEntries);
    const mine = rows.filter(({ object }) => object === again.json<{ id: string }>().id);
    expect(mine).toMatchObject([
      {
        action: "POST /v1/datasets",
        actor: expect.stringMatching(/^key_/) as unknown,
        requestId: expect.stringMatching(/^req_/) as unknown,
      },
    ]);
  });

  test("keys are forgotten after a week", async () => {
    await api().send("POST", "/v1/plans", { body: aSpec(), ...withKey("k-7") });
    await api().services.writes.forgetOldKeys(new Date(Date.now() + 8 * 24 * 3_600_000));
    expect(
      (await api().send("POST", "/v1/plans", { body: aSpec({ name: "other" }), ...withKey("k-7") })).statusCode,
    ).toBe(200);
  });

  test("a run that changed since it was read is not steered", async () => {
    const { id, etag } = await api().submitRun();
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, {
      progress: { step: 1, totalSteps: 30, epoch: 0, loss: 1, tokensPerSecond: 1, remainingSeconds: 1 },
    });
    const unguarded = await api().send("GET", `/v1/runs/${id}`, { headers: { "if-none-match": etag } });
    expect(unguarded.statusCode).toBe(200);
    await api().ok("POST", `/internal/v1/runs/${id}/transitions`, {
      key: "q",
      to: "queued",
      reason: "data-checked",
      message: "waits",
    });
    const problem = await api().refused("POST", `/v1/runs/${id}/cancel`, { headers: { "if-match": etag } });
    expect(problem).toMatchObject({ status: 412, code: "run_changed" });
    const now = await api().send("GET", `/v1/runs/${id}`);
    expect(
      (await api().send("GET", `/v1/runs/${id}`, { headers: { "if-none-match": String(now.headers["etag"]) } }))
        .statusCode,
    ).toBe(304);
    expect(
      (await api().send("POST", `/v1/runs/${id}/cancel`, { headers: { "if-match": String(now.headers["etag"]) } }))
        .statusCode,
    ).toBe(200);
  });

  test("a run is taken while Temporal is away, and starts when it is back", async () => {
    api().workflows.isAway = true;
    const { id } = await api().submitRun();
    const calls = api().workflows.calls;
    await vi.waitFor(() => expect(api().workflows.calls).toBeGreaterThan(calls + 2));
    expect(await api().ok("GET", "/readyz")).toMatchObject({ isReady: true });
    api().workflows.isAway = false;
    await vi.waitFor(() => expect(api().workflows.started.map(({ workflowId }) => workflowId)).toContain(id));
    await vi.waitFor(async () => expect(await api().services.outbox.depth()).toBe(0));
  });

  test("a call that is refused does not hold up the others", async () => {
    const start = api().workflows.start.bind(api().workflows);
    const refusing = vi.spyOn(api().workflows, "start").mockImplementation(async (workflow, workflowId, input) => {
      if (workflowId === bad) throw new Error("invalid argument");
      await start(workflow, workflowId, input);
    });
    let bad = "";
    api().workflows.isAway = true;
    bad = (await api().submitRun()).id;
    const good = (await api().submitRun()).id;
    api().workflows.isAway = false;
    await vi.waitFor(() => expect(api().workflows.started.map(({ workflowId }) => workflowId)).toContain(good));
    expect(api().workflows.started.map(({ workflowId }) => workflowId)).not.toContain(bad);
    refusing.mockRestore();
  });
});
