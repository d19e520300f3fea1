import type { FiredTrigger, PipelineEvent, PipelineResults, PipelineRunState, PipelineSpec } from "@drydock/spec";
import { index, integer, jsonb, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { createdAt, time, updatedAt } from "./columns.ts";

export const pipelines = pgTable("pipelines", {
  id: text("id").primaryKey(),
  name: text("name").notNull().unique(),
  state: text("state").$type<"enabled" | "paused">().notNull(),
  spec: jsonb("spec").$type<PipelineSpec>().notNull(),
  /** Up to when schedules were looked at: what fell due since then is caught up or skipped. */
  scheduledUntil: time("scheduled_until"),
  lastNumber: integer("last_number").notNull().default(0),
  /** What senders of its webhook trigger sign with, sealed; null before one was made. */
  webhookSecret: text("webhook_secret"),
  revision: integer("revision").notNull().default(1),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
});

export const pipelineRuns = pgTable(
  "pipeline_runs",
  {
    id: text("id").primaryKey(),
    pipelineId: text("pipeline_id")
      .notNull()
      .references(() => pipelines.id),
    number: integer("number").notNull(),
    state: text("state").$type<PipelineRunState>().notNull(),
    message: text("message").notNull(),
    /** What started it; the same trigger starts one run. */
    triggerKey: text("trigger_key").notNull(),
    trigger: jsonb("trigger").$type<FiredTrigger>().notNull(),
    /** As the pipeline's was when it started. */
    spec: jsonb("spec").$type<PipelineSpec>().notNull(),
    /** What its steps made, by step: runs, sweeps, evaluations, models. */
    results: jsonb("results").$type<PipelineResults>().notNull(),
    revision: integer("revision").notNull().default(1),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
    endedAt: time("ended_at"),
  },
  (table) => [
    unique("pipeline_runs_number").on(table.pipelineId, table.number),
    unique("pipeline_runs_trigger").on(table.pipelineId, table.triggerKey),
    index("pipeline_runs_state").on(table.state),
  ],
);

/** The timeline of a pipeline's run; `key` makes the controller's retries harmless. */
export const pipelineEvents = pgTable(
  "pipeline_events",
  {
    pipelineRunId: text("pipeline_run_id")
      .notNull()
      .references(() => pipelineRuns.id),
    sequence: integer("sequence").notNull(),
    key: text("key").notNull(),
    time: time("time").notNull(),
    actor: text("actor").notNull(),
    step: text("step"),
    type: text("type").$type<PipelineEvent["type"]>().notNull(),
    message: text("message").notNull(),
    data: jsonb("data").$type<unknown>(),
  },
  (table) => [
    primaryKey({ columns: [table.pipelineRunId, table.sequence] }),
    unique("pipeline_events_key").on(table.pipelineRunId, table.key),
  ],
);
