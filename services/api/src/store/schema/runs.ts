import type { Attempt, Plan, Run, RunEvent, RunParent, RunReason, RunSpec, RunState, Scores } from "@drydock/spec";
import {
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  unique,
} from "drizzle-orm/pg-core";
import { bytes, createdAt, time, updatedAt } from "./columns.ts";
import { datasets } from "./datasets.ts";

export const runs = pgTable(
  "runs",
  {
    id: text("id").primaryKey(),
    name: text("name").notNull(),
    state: text("state").$type<RunState>().notNull(),
    reason: text("reason").$type<RunReason>().notNull(),
    message: text("message").notNull(),
    queue: text("queue").notNull(),
    spec: jsonb("spec").$type<RunSpec>().notNull(),
    plan: jsonb("plan").$type<Plan>().notNull(),
    progress: jsonb("progress").$type<Run["progress"]>().notNull(),
    scoresBefore: jsonb("scores_before").$type<Scores>(),
    scoresAfter: jsonb("scores_after").$type<Scores>(),
    model: text("model"),
    /** What submitted it, when no person did: a trial's sweep, a step of a pipeline's run. */
    parent: jsonb("parent").$type<RunParent>(),
    datasetId: text("dataset_id")
      .notNull()
      .references(() => datasets.id),
    datasetVersion: integer("dataset_version").notNull(),
    /** Grows with each change that a user may want to guard against (state, attempts); progress has its own. */
    revision: integer("revision").notNull().default(1),
    progressRevision: integer("progress_revision").notNull().default(0),
    lastEvent: integer("last_event").notNull().default(0),
    lastMetric: integer("last_metric").notNull().default(0),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
    startedAt: time("started_at"),
    endedAt: time("ended_at"),
  },
  (table) => [index("runs_state").on(table.state, table.id), index("runs_queue").on(table.queue, table.state)],
);

const runId = () =>
  text("run_id")
    .notNull()
    .references(() => runs.id);

export const attempts = pgTable(
  "attempts",
  {
    runId: runId(),
    epoch: integer("epoch").notNull(),
    state: text("state").$type<Attempt["state"]>().notNull(),
    failureClass: text("failure_class").$type<RunReason>(),
    message: text("message"),
    exitCode: integer("exit_code"),
    fromStep: integer("from_step").notNull(),
    lastStep: integer("last_step").notNull(),
    microBatchSize: integer("micro_batch_size"),
    startedAt: time("started_at").notNull(),
    endedAt: time("ended_at"),
  },
  (table) => [primaryKey({ columns: [table.runId, table.epoch] })],
);

/** One row per change of state and per notable happening; `key` makes the controller's retries harmless. */
export const runEvents = pgTable(
  "run_events",
  {
    runId: runId(),
    sequence: integer("sequence").notNull(),
    key: text("key").notNull(),
    time: time("time").notNull(),
    actor: text("actor").notNull(),
    type: text("type").$type<RunEvent["type"]>().notNull(),
    from: text("from_state").$type<RunState>(),
    to: text("to_state").$type<RunState>(),
    reason: text("reason").$type<RunReason>().notNull(),
    message: text("message").notNull(),
    attempt: integer("attempt"),
    step: integer("step"),
  },
  (table) => [
    primaryKey({ columns: [table.runId, table.sequence] }),
    unique("run_events_key").on(table.runId, table.key),
  ],
);

export const stepMetrics = pgTable(
  "step_metrics",
  {
    runId: runId(),
    sequence: integer("sequence").notNull(),
    step: integer("step").notNull(),
    attempt: integer("attempt").notNull(),
    time: time("time").notNull(),
    loss: doublePrecision("loss").notNull(),
    learningRate: doublePrecision("learning_rate").notNull(),
    gradientNorm: doublePrecision("gradient_norm").notNull(),
    tokens: integer("tokens").notNull(),
    seconds: doublePrecision("seconds").notNull(),
    memoryBytes: doublePrecision("memory_bytes").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.runId, table.attempt, table.step] }),
    unique("step_metrics_sequence").on(table.runId, table.sequence),
  ],
);

export const checkpoints = pgTable(
  "checkpoints",
  {
    runId: runId(),
    step: integer("step").notNull(),
    attempt: integer("attempt").notNull(),
    key: text("key").notNull(),
    sizeBytes: bytes("size_bytes").notNull(),
    manifestSha256: text("manifest_sha256").notNull(),
    isBest: boolean("is_best").notNull(),
    scores: jsonb("scores").$type<Scores>(),
    createdAt: createdAt(),
  },
  (table) => [primaryKey({ columns: [table.runId, table.step] })],
);
