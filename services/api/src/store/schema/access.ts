import { index, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { createdAt, time } from "./columns.ts";

export type Scope = "read" | "submit" | "admin";

/** Keys are kept as SHA-256 of a random secret: a slow hash would protect nothing that 160 random bits do not. */
export const apiKeys = pgTable("api_keys", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  hash: text("hash").notNull().unique(),
  scopes: jsonb("scopes").$type<Scope[]>().notNull(),
  createdAt: createdAt(),
  revokedAt: time("revoked_at"),
});

/** Answers of POSTs that carried an `Idempotency-Key`, written in the transaction of the work itself. */
export const idempotencyKeys = pgTable(
  "idempotency_keys",
  {
    actor: text("actor").notNull(),
    key: text("key").notNull(),
    bodyDigest: text("body_digest").notNull(),
    answer: jsonb("answer").$type<unknown>(),
    createdAt: createdAt(),
  },
  (table) => [primaryKey({ columns: [table.actor, table.key] }), index("idempotency_keys_age").on(table.createdAt)],
);

/** Who wrote what, one row per write. */
export const auditEntries = pgTable(
  "audit_entries",
  {
    id: text("id").primaryKey(),
    time: time("time").notNull().defaultNow(),
    actor: text("actor").notNull(),
    action: text("action").notNull(),
    object: text("object").notNull(),
    requestId: text("request_id").notNull(),
  },
  (table) => [index("audit_entries_object").on(table.object, table.time)],
);
