import type { ClusterReport } from "@drydock/spec";
import { sql } from "drizzle-orm";
import { bigint, index, integer, jsonb, pgTable, text } from "drizzle-orm/pg-core";
import { createdAt, time } from "./columns.ts";

/** What the controller said last of the cluster: one row. */
export const clusterReports = pgTable("cluster_reports", {
  id: text("id").primaryKey(),
  report: jsonb("report").$type<ClusterReport>().notNull(),
  receivedAt: time("received_at").notNull(),
});

/** Calls to Temporal that are still to be made, in order per workflow; a row goes when its call has been answered. */
export const outbox = pgTable(
  "outbox",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    workflowId: text("workflow_id").notNull(),
    kind: text("kind").$type<"start" | "signal">().notNull(),
    /** Workflow type of a start, name of a signal. */
    name: text("name").notNull(),
    input: jsonb("input").$type<unknown>(),
    tries: integer("tries").notNull().default(0),
    /** Not before this time; also the lease of the process that is delivering it. */
    dueAt: time("due_at")
      .notNull()
      .default(sql`now()`),
    lastError: text("last_error"),
    createdAt: createdAt(),
  },
  (table) => [index("outbox_workflow").on(table.workflowId, table.id), index("outbox_due").on(table.dueAt)],
);
