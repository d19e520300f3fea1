import type { RunParent, SweepSpec, SweepState } from "@drydock/spec";
import { index, integer, jsonb, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
import { createdAt, time, updatedAt } from "./columns.ts";
import { runs } from "./runs.ts";

export const sweeps = pgTable("sweeps", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  state: text("state").$type<SweepState>().notNull(),
  message: text("message").notNull(),
  spec: jsonb("spec").$type<SweepSpec>().notNull(),
  /** Changed while it runs: parallel trials. */
  maxParallel: integer("max_parallel").notNull(),
  parent: jsonb("parent").$type<RunParent>(),
  revision: integer("revision").notNull().default(1),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
  endedAt: time("ended_at"),
});

export const sweepTrials = pgTable(
  "sweep_trials",
  {
    sweepId: text("sweep_id")
      .notNull()
      .references(() => sweeps.id),
    number: integer("number").notNull(),
    runId: text("run_id").references(() => runs.id),
    /** What the sweep decided of it; how far it is, its run says. */
    state: text("state").$type<"open" | "held" | "stopped">().notNull(),
    message: text("message").notNull(),
    parameters: jsonb("parameters").$type<Record<string, unknown>>().notNull(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [primaryKey({ columns: [table.sweepId, table.number] }), index("sweep_trials_run").on(table.runId)],
);
