import { NewWebhook, Webhook, WebhookDelivery, WebhookSecret, pageOf, type WebhookChange } from "@drydock/spec";
import { z } from "zod";
import type { HttpClient, Query } from "./http.ts";

/** Webhooks and what was sent to them, one method a route. */
export class WebhookClient {
  readonly #http: HttpClient;

  constructor(http: HttpClient) {
    this.#http = http;
  }

  create(body: unknown): Promise<z.output<typeof NewWebhook>> {
    return this.#http.postJson("/v1/webhooks", NewWebhook, body);
  }

  async list(): Promise<Webhook[]> {
    return (await this.#http.getJson("/v1/webhooks", z.object({ items: z.array(Webhook) }))).items;
  }

  change(id: string, change: WebhookChange): Promise<Webhook> {
    return this.#http.patchJson(pathOf(id), Webhook, change);
  }

  async remove(id: string): Promise<void> {
    await this.#http.send("DELETE", pathOf(id), {});
  }

  newSecret(id: string): Promise<z.output<typeof WebhookSecret>> {
    return this.#http.postJson(`${pathOf(id)}/secret`, WebhookSecret, {});
  }

  test(id: string): Promise<WebhookDelivery> {
    return this.#http.postJson(`${pathOf(id)}/test`, WebhookDelivery, {});
  }

  deliveries(id: string, query: Query): Promise<{ items: WebhookDelivery[]; nextCursor: string | null }> {
    return this.#http.getJson(`${pathOf(id)}/deliveries`, pageOf(WebhookDelivery), query);
  }

  redeliver(id: string, deliveryId: string): Promise<WebhookDelivery> {
    const path = `${pathOf(id)}/deliveries/${encodeURIComponent(deliveryId)}/redeliver`;
    return this.#http.postJson(path, WebhookDelivery, {});
  }
}

function pathOf(id: string): string {
  return `/v1/webhooks/${encodeURIComponent(id)}`;
}
