import {
  NewWebhook,
  PageQuery,
  Webhook,
  WebhookChange,
  WebhookCreation,
  WebhookDelivery,
  WebhookSecret,
  pageOf,
} from "@drydock/spec";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { problems } from "../problem-responses.ts";
import type { Services } from "../services.ts";
import { WebhookStore, toDelivery, toWebhook } from "../store/webhook-store.ts";
import { newWebhookSecret } from "../webhooks/webhook-secret.ts";
import { writeOnce } from "../writes.ts";

const Params = z.object({ id: z.string().max(64) });
const DeliveryParams = Params.extend({ deliveryId: z.string().max(64) });
const ChangeHeaders = z.object({
  "if-match": z.string().max(200).optional().meta({ description: "ETag of the webhook as you know it" }),
});
/** `/v1/webhooks`: who is told of what happens, and what was sent to them. Needs the scope `admin`. */
export const webhookRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { webhooks, webhookTargets, secrets, writes, database } = services;
  const config = { scope: "admin" as const };

  app.post(
    "/webhooks",
    {
      config,
      schema: {
        operationId: "createWebhook",
        summary: "Have events posted to a URL",
        description:
          "Requests are signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`: HMAC-SHA256). A delivery that fails is tried again for most of a day; after five in a row that were given up the webhook is disabled. Only the answer to this request shows the secret, so it takes no `Idempotency-Key`.",
        tags: ["webhooks"],
        body: WebhookCreation,
        response: { 201: NewWebhook, ...problems(413, 415, 422) },
      },
    },
    async (request, reply) => {
      const secret = newWebhookSecret();
      delete request.headers["idempotency-key"];
      const webhook = await writeOnce(writes, request, reply, {
        prepare: async () => await webhookTargets.check(request.body.url),
        write: async (tx) => {
          const row = await new WebhookStore(tx).insert(request.body, secrets.seal(secret));
          return { answer: toWebhook(row), object: row.id };
        },
      });
      return await reply
        .code(201)
        .header("location", `/v1/webhooks/${webhook.id}`)
        .header("etag", webhook.etag)
        .send({ ...webhook, secret });
    },
  );

  app.get(
    "/webhooks",
    {
      config,
      schema: {
        operationId: "listWebhooks",
        summary: "List webhooks, without their secrets",
        tags: ["webhooks"],
        response: { 200: z.object({ items: z.array(Webhook) }), ...problems() },
      },
    },
    async () => ({ items: (await webhooks.all()).map(toWebhook) }),
  );

  app.get(
    "/webhooks/:id",
    {
      config,
      schema: {
        operationId: "getWebhook",
        summary: "Read a webhook",
        tags: ["webhooks"],
        params: Params,
        response: { 200: Webhook, ...problems(404) },
      },
    },
    async (request, reply) => {
      const webhook = toWebhook(await webhooks.get(request.params.id));
      return await reply.header("etag", webhook.etag).send(webhook);
    },
  );

  app.patch(
    "/webhooks/:id",
    {
      config,
      schema: {
        operationId: "changeWebhook",
        summary: "Change a webhook, disable it, or enable it again",
        description: "What was not delivered while it was disabled is sent when it is enabled.",
        tags: ["webhooks"],
        params: Params,
        headers: ChangeHeaders,
        body: WebhookChange,
        response: { 200: Webhook, ...problems(404, 412, 413, 415, 422) },
      },
    },
    async (request, reply) => {
      const webhook = await writeOnce(writes, request, reply, {
        prepare: async () => {
          if (request.body.url !== undefined) await webhookTargets.check(request.body.url);
        },
        write: async (tx) => {
          const store = new WebhookStore(tx);
          const row = await store.lock(request.params.id, request.headers["if-match"]);
          return { answer: toWebhook(await store.change(row, request.body)), object: row.id };
        },
      });
      return await reply.header("etag", webhook.etag).send(webhook);
    },
  );

  app.delete(
    "/webhooks/:id",
    {
      config,
      schema: {
        operationId: "deleteWebhook",
        summary: "Delete a webhook and what is on its way to it",
        tags: ["webhooks"],
        params: Params,
        headers: ChangeHeaders,
        response: { 204: z.null(), ...problems(404, 412) },
      },
    },
    async (request, reply) => {
      await database.transaction(async (tx) => {
        const store = new WebhookStore(tx);
        await store.remove(await store.lock(request.params.id, request.headers["if-match"]));
      });
      return await reply.code(204).send(null);
    },
  );

  app.post(
    "/webhooks/:id/secret",
    {
      config,
      schema: {
        operationId: "replaceWebhookSecret",
        summary: "Make a new secret; requests are signed with the one before, too, for a day",
        tags: ["webhooks"],
        params: Params,
        body: z.strictObject({}).nullish(),
        response: { 201: WebhookSecret, ...problems(404, 415) },
      },
    },
    async (request, reply) => {
      const secret = newWebhookSecret();
      delete request.headers["idempotency-key"];
      await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new WebhookStore(tx);
          const row = await store.lock(request.params.id);
          await store.replaceSecret(row, secrets.seal(secret), new Date());
          return { answer: null, object: row.id };
        },
      });
      return await reply.code(201).send({ secret });
    },
  );

  app.post(
    "/webhooks/:id/test",
    {
      config,
      schema: {
        operationId: "testWebhook",
        summary: "Send an event of type webhook.test",
        tags: ["webhooks"],
        params: Params,
        body: z.strictObject({}).nullish(),
        response: { 202: WebhookDelivery, ...problems(404, 415, 422) },
      },
    },
    async (request, reply) => {
      const delivery = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const store = new WebhookStore(tx);
          const { id } = await store.get(request.params.id);
          const payload = { type: "webhook.test" as const, timestamp: new Date().toISOString(), data: { webhook: id } };
          return { answer: toDelivery(await store.insertDelivery(id, payload)), object: id };
        },
      });
      return await reply.code(202).send(delivery);
    },
  );

  app.get(
    "/webhooks/:id/deliveries",
    {
      config,
      schema: {
        operationId: "listWebhookDeliveries",
        summary: "What was sent to a webhook, or waits, newest first; kept for 30 days",
        tags: ["webhooks"],
        params: Params,
        querystring: PageQuery,
        response: { 200: pageOf(WebhookDelivery), ...problems(404) },
      },
    },
    async (request) => {
      const { id } = await webhooks.get(request.params.id);
      return await webhooks.deliveries(id, request.query);
    },
  );

  app.post(
    "/webhooks/:id/deliveries/:deliveryId/redeliver",
    {
      config,
      schema: {
        operationId: "redeliverWebhook",
        summary: "Send an event again, under the same id",
        tags: ["webhooks"],
        params: DeliveryParams,
        body: z.strictObject({}).nullish(),
        response: { 202: WebhookDelivery, ...problems(404, 415, 422) },
      },
    },
    async (request, reply) => {
      const { id, deliveryId } = request.params;
      const delivery = await writeOnce(writes, request, reply, {
        prepare: async () => null,
        write: async (tx) => {
          const row = await new WebhookStore(tx).sendAgain(id, deliveryId);
          return { answer: toDelivery(row), object: id };
        },
      });
      return await reply.code(202).send(delivery);
    },
  );
};
