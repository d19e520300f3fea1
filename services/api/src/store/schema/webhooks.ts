import type { Webhook, WebhookPayload } from "@drydock/spec";
import { index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { createdAt, time, updatedAt } from "./columns.ts";

/** Who is told of what happens. */
export const webhooks = pgTable("webhooks", {
  id: text("id").primaryKey(),
  url: text("url").notNull(),
  events: jsonb("events").$type<Webhook["events"]>().notNull(),
  description: text("description").notNull(),
  state: text("state").$type<Webhook["state"]>().notNull(),
  reason: text("reason"),
  /** Sealed. */
  secret: text("secret").notNull(),
  /** The secret before, sealed: requests are signed with both until the receiver knows the new one. */
  previousSecret: text("previous_secret"),
  previousUntil: time("previous_until"),
  /** Deliveries in a row that were given up. */
  failuresInRow: integer("failures_in_row").notNull().default(0),
  revision: integer("revision").notNull().default(1),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
});

/** One row per event and webhook, written in the transaction of what happened. */
export const webhookDeliveries = pgTable(
  "webhook_deliveries",
  {
    id: text("id").primaryKey(),
    webhookId: text("webhook_id")
      .notNull()
      .references(() => webhooks.id, { onDelete: "cascade" }),
    state: text("state").$type<"pending" | "delivered" | "failed">().notNull(),
    payload: jsonb("payload").$type<WebhookPayload>().notNull(),
    tries: integer("tries").notNull().default(0),
    /** Not before this time; also the lease of the process that is sending it. */
    dueAt: time("due_at").notNull().defaultNow(),
    status: integer("status"),
    error: text("error"),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [
    index("webhook_deliveries_due").on(table.state, table.dueAt),
    index("webhook_deliveries_webhook").on(table.webhookId, table.id),
  ],
);
