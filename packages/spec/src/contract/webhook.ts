import { z } from "zod";
import { Timestamp } from "./common.ts";

/** What webhooks tell of. */
export const webhookEventTypes = [
  "run.running",
  "run.paused",
  "run.succeeded",
  "run.failed",
  "run.cancelled",
  "dataset.ready",
  "dataset.failed",
  "evaluation.succeeded",
  "evaluation.failed",
  "evaluation.cancelled",
  "sweep.succeeded",
  "sweep.failed",
  "sweep.cancelled",
  "pipeline-run.running",
  "pipeline-run.awaiting-approval",
  "pipeline-run.succeeded",
  "pipeline-run.refused",
  "pipeline-run.failed",
  "pipeline-run.cancelled",
  "pipeline-run.rolled-back",
  "pipeline-run.skipped",
  "model.registered",
  "model.promoted",
  "model.rolled-back",
  "model.retired",
  "webhook.test",
] as const;

export const WebhookEventType = z.enum(webhookEventTypes).meta({ id: "WebhookEventType" });
export type WebhookEventType = z.infer<typeof WebhookEventType>;

const groups = [...new Set(webhookEventTypes.map((type) => type.split(".")[0] as string))];

/** An event, all of one kind (`model.*`), or all (`*`). */
const EventPattern = z
  .union([z.literal("*"), z.enum(groups.map((group) => `${group}.*`)), WebhookEventType])
  .meta({ id: "WebhookEventPattern" });

/** Body of `POST /v1/webhooks`. */
export const WebhookCreation = z
  .strictObject({
    /** `https`, or `http` to a host that the server's configuration allows. */
    url: z.url({ protocol: /^https?$/, error: "use an http or https URL" }).max(2048),
    events: z.array(EventPattern).min(1).max(100).default(["*"]),
    description: z.string().max(500).default(""),
  })
  .meta({ id: "WebhookCreation" });
export type WebhookCreation = z.output<typeof WebhookCreation>;

/** Body of `PATCH /v1/webhooks/{id}`. */
export const WebhookChange = z
  .strictObject({
    url: WebhookCreation.shape.url.optional(),
    events: z.array(EventPattern).min(1).max(100).optional(),
    description: z.string().max(500).optional(),
    state: z.enum(["enabled", "disabled"]).optional(),
  })
  .meta({ id: "WebhookChange" });
export type WebhookChange = z.output<typeof WebhookChange>;

export const Webhook = z
  .object({
    id: z.string(),
    url: z.string(),
    events: z.array(EventPattern),
    description: z.string(),
    state: z.enum(["enabled", "disabled"]),
    /** Why it is disabled; null while it is not. */
    reason: z.string().nullable(),
    etag: z.string(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Webhook" });
export type Webhook = z.infer<typeof Webhook>;

/** The only time that a secret is shown: `whsec_` and base64, as Standard Webhooks has it. */
export const WebhookSecret = z.object({ secret: z.string() }).meta({ id: "WebhookSecret" });

export const NewWebhook = z.object({ ...Webhook.shape, ...WebhookSecret.shape }).meta({ id: "NewWebhook" });

/** What is sent: the body of the request, signed together with its id and the time. */
export const WebhookPayload = z
  .object({ type: WebhookEventType, timestamp: Timestamp, data: z.record(z.string(), z.unknown()) })
  .meta({ id: "WebhookPayload" });
export type WebhookPayload = z.infer<typeof WebhookPayload>;

/** One event on its way to one webhook. */
export const WebhookDelivery = z
  .object({
    /** `webhook-id` of the request, the same at every try. */
    id: z.string(),
    state: z.enum(["pending", "delivered", "failed"]),
    payload: WebhookPayload,
    tries: z.int().nonnegative(),
    /** When it is tried next; null when it is over. */
    dueAt: Timestamp.nullable(),
    /** What the last try came to. */
    status: z.int().nullable(),
    error: z.string().nullable(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "WebhookDelivery" });
export type WebhookDelivery = z.infer<typeof WebhookDelivery>;

/** Whether a webhook is told of an event. A test is for all. */
export function isSubscribed(events: Webhook["events"], type: WebhookEventType): boolean {
  if (type === "webhook.test") return true;
  return events.some((pattern) => pattern === "*" || pattern === type || pattern === `${type.split(".")[0]}.*`);
}

/** A secret that senders of a pipeline's webhook trigger sign with, and where they post. */
export const IncomingWebhook = z.object({ path: z.string(), ...WebhookSecret.shape }).meta({ id: "IncomingWebhook" });
