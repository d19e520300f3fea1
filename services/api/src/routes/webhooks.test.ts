import { createHmac } from "node:crypto";
import type { Page } from "../pages.ts";
import type { Webhook, WebhookDelivery } from "@drydock/spec";
import { eq } from "drizzle-orm";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { expect, test, vi } from "vitest";
import { onEachDatabase, useApi } from "../../test/support/api.ts";
import { registerModel } from "../../test/support/registered-model.ts";
import { WebhookReceiver, type ReceivedWebhook } from "../../test/support/webhook-receiver.ts";
import { webhooks } from "../store/schema.ts";
import { WebhookLoop } from "../webhooks/webhook-loop.ts";
import { WebhookTargets } from "../webhooks/webhook-targets.ts";

const timing = { pollMs: 10, timeoutMs: 500, retryDelaysMs: [1, 1, 1] };

onEachDatabase("webhooks", (location) => {
  const api = useApi(location, { webhookTiming: timing, webhookAllow: ["127.0.0.1"] });

  const create = async (body: object): Promise<Webhook & { secret: string }> =>
    await api().ok("POST", "/v1/webhooks", body);
  const read = async (id: string): Promise<Webhook> => await api().ok("GET", `/v1/webhooks/${id}`);
  const send = async (id: string): Promise<WebhookDelivery> => await api().ok("POST", `/v1/webhooks/${id}/test`, {});
  const deliveries = async (id: string): Promise<WebhookDelivery[]> =>
    (await api().ok<Page<WebhookDelivery>>("GET", `/v1/webhooks/${id}/deliveries`)).items;
  const remove = async (id: string): Promise<void> =>
    expect((await api().send("DELETE", `/v1/webhooks/${id}`)).statusCode).toBe(204);
  /** Waits until the newest delivery is over. */
  const settled = async (id: string): Promise<WebhookDelivery> =>
    await vi.waitFor(async () => {
      const [newest] = await deliveries(id);
      if (newest === undefined || newest.state === "pending") throw new Error("it is on its way");
      return newest;
    }, 10_000);

  const isSignedWith = (secret: string, { headers, body }: ReceivedWebhook): boolean => {
    const signed = `${String(headers["webhook-id"])}.${String(headers["webhook-timestamp"])}.${body}`;
    const key = Buffer.from(secret.slice("whsec_".length), "base64");
    const value = createHmac("sha256", key).update(signed).digest("base64");
    return String(headers["webhook-signature"]).split(" ").includes(`v1,${value}`);
  };

  test("an event is posted once, signed so that the reference implementation takes it; the secret is shown once", async () => {
    await using receiver = await WebhookReceiver.open();
    const { id, secret, ...webhook } = await create({ url: receiver.url, events: ["model.*"] });
    expect(webhook).toMatchObject({ state: "enabled", reason: null, events: ["model.*"] });
    const { id: deliveryId } = await send(id);
    await receiver.hears(1);
    const [first] = receiver.received;
    expect(first!.headers).toMatchObject({ "webhook-id": deliveryId, "content-type": "application/json" });
    expect(JSON.parse(first!.body)).toMatchObject({ type: "webhook.test", data: { webhook: id } });
    expect(isSignedWith(secret, first!)).toBe(true);
    const headers = first!.headers as Record<string, string>;
    expect(() => new StandardWebhook(secret).verify(first!.body, headers)).not.toThrow();
    expect(() => new StandardWebhook(secret).verify(`${first!.body} `, headers)).toThrow("No matching signature");
    expect(await settled(id)).toMatchObject({ id: deliveryId, state: "delivered", tries: 1, status: 204, dueAt: null });
    expect(receiver.received).toHaveLength(1);
    expect(JSON.stringify([await read(id), await api().ok("GET", "/v1/webhooks")])).not.toContain("whsec");
    const [row] = await api().services.database.select().from(webhooks).where(eq(webhooks.id, id));
    expect(JSON.stringify(row)).not.toContain(secret.slice("whsec_".length));
    await api().ok("PATCH", `/v1/webhooks/${id}`, { state: "disabled" });
  });

  test("webhooks are told of what they asked for, in the transaction in which it happens", async () => {
    await using everything = await WebhookReceiver.open();
    await using models = await WebhookReceiver.open();
    const all = await create({ url: everything.url });
    const some = await create({ url: models.url, events: ["model.*", "run.failed"] });
    const dataset = await api().readyDataset();
    const { id } = await api().submitRun({ dataset, name: "told" });
    const transition = async (key: string, to: string): Promise<void> =>
      await api().ok("POST", `/internal/v1/runs/${id}/transitions`, { key, to, reason: "worker-joined", message: to });
    for (const to of ["queued", "scheduling", "running", "running", "failed"]) await transition(to, to);
    const { version } = await registerModel(api(), { name: "told", version: 1, runId: id });
    await api().ok("POST", `/v1/models/told/versions/${version}/stage`, { to: "production" });
    await everything.hears(5);
    await models.hears(3);
    expect(everything.types().toSorted()).toEqual([
      "dataset.ready",
      "model.promoted",
      "model.registered",
      "run.failed",
      "run.running",
    ]);
    expect(models.types().toSorted()).toEqual(["model.promoted", "model.registered", "run.failed"]);
    const failed = models.received.map(({ body }) => JSON.parse(body)).find(({ type }) => type === "run.failed");
    expect(failed.data).toEqual({
      run: id,
      name: "told",
      state: "failed",
      reason: "worker-joined",
      message: "failed",
      model: null,
    });
    for (const webhook of [all, some]) await api().ok("PATCH", `/v1/webhooks/${webhook.id}`, { state: "disabled" });
  });

  test("a receiver that fails is tried again under the same id; given up five times in a row, it is disabled and says why", async () => {
    await using receiver = await WebhookReceiver.open();
    receiver.answer = (count) => (count <= 2 ? 503 : 200);
    const { id } = await create({ url: receiver.url });
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "delivered", tries: 3, status: 200, error: null });
    expect(new Set(receiver.received.map(({ headers }) => headers["webhook-id"])).size).toBe(1);

    receiver.answer = () => 500;
    for (let time = 1; time <= 5; time++) {
      expect((await read(id)).state).toBe("enabled");
      await send(id);
      expect(await settled(id)).toMatchObject({ state: "failed", tries: 4, error: "the receiver answered 500" });
    }
    expect(await read(id)).toMatchObject({
      state: "disabled",
      reason: "5 deliveries in a row were given up; the last: the receiver answered 500",
    });

    receiver.answer = () => 200;
    const waiting = await send(id);
    const heard = receiver.received.length;
    await api().services.webhookLoop.sendDue();
    expect(receiver.received).toHaveLength(heard);
    await api().ok("PATCH", `/v1/webhooks/${id}`, { state: "enabled" });
    expect(await settled(id)).toMatchObject({ id: waiting.id, state: "delivered" });
    const failed = (await deliveries(id)).find(({ state }) => state === "failed");
    await api().ok("POST", `/v1/webhooks/${id}/deliveries/${failed?.id}/redeliver`, {});
    await vi.waitFor(async () =>
      expect((await deliveries(id)).find((each) => each.id === failed?.id)?.state).toBe("delivered"),
    );
    await remove(id);
  });

  test("a delivery that is asked for again while its last try goes on is sent again", async () => {
    await using receiver = await WebhookReceiver.open();
    receiver.answer = (count) => (count < 4 ? 500 : null);
    const { id } = await create({ url: receiver.url });
    await send(id);
    await receiver.hears(4);
    receiver.answer = () => 204;
    const [delivery] = await deliveries(id);
    await api().ok("POST", `/v1/webhooks/${id}/deliveries/${delivery?.id}/redeliver`, {});
    expect(await settled(id)).toMatchObject({ state: "delivered", tries: 1 });
    await remove(id);
  });

  test("410 Gone disables at once; no answer at all is a failure that says so", async () => {
    await using receiver = await WebhookReceiver.open();
    receiver.answer = () => null;
    const { id } = await create({ url: receiver.url });
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "failed", tries: 4, status: null });
    receiver.answer = () => 410;
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "failed", tries: 1, status: 410 });
    expect(await read(id)).toMatchObject({ state: "disabled", reason: "the receiver answered 410 Gone" });
  });

  test.each([
    ["http://127.0.0.2:80/", "127.0.0.2 is not a public address"],
    ["https://localhost.localdomain.invalid/", 'there is no host "localhost.localdomain.invalid"'],
    ["https://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"],
    ["https://10.0.0.1/", "10.0.0.1 is not a public address"],
    ["https://[::1]/", "::1 is not a public address"],
    ["https://[::ffff:10.0.0.1]/", "is not a public address"],
    ["https://0.0.0.0/", "0.0.0.0 is not a public address"],
    ["https://2130706434/", "127.0.0.2 is not a public address"],
    ["http://93.184.215.14/", "would go over the net in the clear: use an https URL"],
    ["https://user:secret@93.184.215.14/", "carries a user name or password"],
    ["ftp://93.184.215.14/", "use an http or https URL"],
    ["not a url", "use an http or https URL"],
  ])("%s is refused as a target", async (url, message) => {
    const problem = await api().refused("POST", "/v1/webhooks", { body: { url } });
    expect(problem.status).toBe(400);
    expect(problem.errors[0]).toMatchObject({ path: "url" });
    expect(problem.detail).toContain(message);
  });

  test("an address that a name means only later, or a redirect leads to, is not reached either", async () => {
    await using inside = await WebhookReceiver.open("127.0.0.2");
    await using receiver = await WebhookReceiver.open();
    const { id } = await create({ url: receiver.url });
    receiver.answer = () => 302;
    receiver.headers = { location: `http://127.0.0.2:${inside.port}/` };
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "failed", error: "the receiver answered 302" });
    await api()
      .services.database.update(webhooks)
      .set({ url: `http://127.0.0.2:${inside.port}/` })
      .where(eq(webhooks.id, id));
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "failed", status: null });
    expect((await settled(id)).error).toContain("127.0.0.2");
    expect((await settled(id)).error).toContain("is not allowed");
    expect(inside.received).toEqual([]);
    await remove(id);
    expect(await api().refused("GET", `/v1/webhooks/${id}`)).toMatchObject({ status: 404, code: "webhook_not_found" });
  });

  test("a new secret signs beside the one before", async () => {
    await using receiver = await WebhookReceiver.open();
    const { id, secret: before } = await create({ url: receiver.url });
    const { secret } = await api().ok<{ secret: string }>("POST", `/v1/webhooks/${id}/secret`, {});
    await send(id);
    await receiver.hears(1);
    expect([before, secret].map((each) => isSignedWith(each, receiver.received[0]!))).toEqual([true, true]);
    await remove(id);
  });

  test("of several servers one sends a delivery", async () => {
    await using receiver = await WebhookReceiver.open();
    const { id } = await create({ url: receiver.url, events: ["run.failed"] });
    await api().ok("PATCH", `/v1/webhooks/${id}`, { state: "disabled" });
    const sent = await Promise.all(Array.from({ length: 20 }, async () => await send(id)));
    const { database, logger, secrets } = api().services;
    const targets = new WebhookTargets(["127.0.0.1"]);
    const servers = Array.from({ length: 3 }, () => new WebhookLoop({ database, logger, targets, secrets, timing }));
    await api().ok("PATCH", `/v1/webhooks/${id}`, { state: "enabled" });
    await Promise.all(servers.map(async (server) => await server.sendDue()));
    await vi.waitFor(async () => expect((await deliveries(id)).every(({ state }) => state === "delivered")).toBe(true));
    expect(receiver.received.map(({ headers }) => String(headers["webhook-id"])).toSorted()).toEqual(
      sent.map((each) => each.id).toSorted(),
    );
    for (const server of servers) await server.close();
    await remove(id);
  });

  test("a receiver that never answers keeps others waiting no longer than a look", async () => {
    await using silent = await WebhookReceiver.open();
    await using quick = await WebhookReceiver.open();
    silent.answer = () => null;
    const slow = await create({ url: silent.url, events: ["run.failed"] });
    await api().ok("PATCH", `/v1/webhooks/${slow.id}`, { state: "disabled" });
    for (let count = 0; count < 40; count++) await send(slow.id);
    await api().ok("PATCH", `/v1/webhooks/${slow.id}`, { state: "enabled" });
    await silent.hears(1);
    const { id } = await create({ url: quick.url, events: ["run.failed"] });
    const startedMs = Date.now();
    await send(id);
    await quick.hears(1);
    expect(Date.now() - startedMs).toBeLessThan(timing.timeoutMs);
    for (const each of [slow.id, id]) await remove(each);
  });

  test("a webhook that is deleted while it is being sent to keeps no others waiting", async () => {
    await using silent = await WebhookReceiver.open();
    await using quick = await WebhookReceiver.open();
    silent.answer = () => null;
    const gone = await create({ url: silent.url, events: ["run.failed"] });
    await send(gone.id);
    await silent.hears(1);
    await remove(gone.id);
    const { id } = await create({ url: quick.url, events: ["run.failed"] });
    await send(id);
    expect(await settled(id)).toMatchObject({ state: "delivered" });
    await remove(id);
  });
});
