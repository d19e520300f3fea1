import { newId } from "@drydock/kit";
import { isSubscribed, type WebhookEventType } from "@drydock/spec";
import { eq } from "drizzle-orm";
import type { Database } from "./database.ts";
import { webhookDeliveries, webhooks } from "./schema.ts";

export interface DrydockEvent {
  readonly type: WebhookEventType;
  /** What happened to what: ids, names, a sentence. Never data of users. */
  readonly data: Readonly<Record<string, unknown>>;
}

/** Notes for every webhook that wants to know of it that something happened, in the transaction in which it does. */
export async function emitEvent(tx: Database, { type, data }: DrydockEvent): Promise<void> {
  const enabled = await tx
    .select({ id: webhooks.id, events: webhooks.events })
    .from(webhooks)
    .where(eq(webhooks.state, "enabled"));
  const told = enabled.filter(({ events }) => isSubscribed(events, type));
  if (told.length === 0) return;
  const payload = { type, timestamp: new Date().toISOString(), data: { ...data } };
  await tx
    .insert(webhookDeliveries)
    .values(told.map(({ id }) => ({ id: newId("delivery"), webhookId: id, state: "pending" as const, payload })));
}
