import type {
  Attempt,
  ClusterReport,
  DatasetStatistics,
  Evaluation,
  EvaluationDetails,
  EvaluationSpec,
  FiredTrigger,
  EvaluationSuiteSpec,
  ImportOptions,
  ModelRegistration,
  ModelEventType,
  ModelStage,
  Observation,
  PipelineEvent,
  PipelineResults,
  PipelineRunState,
  PipelineSpec,
  Plan,
  Run,
  RunEvent,
  RunParent,
  RunReason,
  RunSpec,
  RunState,
  RetentionRule,
  Scores,
  SignedManifest,
  ValidationReport,
  SweepSpec,
  SweepState,
} from "@drydock/spec";
import { sql } from "drizzle-orm";
import {
  bigint,
  boolean,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  text,
  timestamp,
  unique,
} from "drizzle-orm/pg-core";

const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: "date" });
const createdAt = () => time("created_at").notNull().defaultNow();
const updatedAt = () => time("updated_at").notNull().defaultNow();
const bytes = (name: string) => bigint(name, { mode: "number" });

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

export const datasets = pgTable("datasets", {
  id: text("id").primaryKey(),
  name: text("name").notNull().unique(),
  description: text("description").notNull(),
  latestVersion: integer("latest_version").notNull().default(0),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
});

/** Files that arrived, under the key prefix `uploads/<id>/`. */
export const uploads = pgTable("uploads", {
  id: text("id").primaryKey(),
  datasetId: text("dataset_id")
    .notNull()
    .references(() => datasets.id),
  files: integer("files").notNull(),
  sizeBytes: bytes("size_bytes").notNull(),
  createdAt: createdAt(),
});

export const datasetVersions = pgTable(
  "dataset_versions",
  {
    id: text("id").primaryKey(),
    datasetId: text("dataset_id")
      .notNull()
      .references(() => datasets.id),
    version: integer("version").notNull(),
    state: text("state").$type<"validating" | "ready" | "failed">().notNull(),
    reason: text("reason"),
    options: jsonb("options").$type<ImportOptions>().notNull(),
    uploadId: text("upload_id")
      .notNull()
      .references(() => uploads.id),
    digest: text("digest"),
    statistics: jsonb("statistics").$type<DatasetStatistics>(),
    report: jsonb("report").$type<ValidationReport>(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [unique("dataset_versions_number").on(table.datasetId, table.version)],
);

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

export const models = pgTable(
  "models",
  {
    name: text("name").notNull(),
    version: integer("version").notNull(),
    kind: text("kind").$type<ModelRegistration["kind"]>().notNull(),
    task: text("task").$type<ModelRegistration["task"]>().notNull(),
    systemPrompt: text("system_prompt").notNull(),
    files: jsonb("files").$type<ModelRegistration["files"]>().notNull(),
    lineage: jsonb("lineage").$type<ModelRegistration["lineage"]>().notNull(),
    stage: text("stage").$type<ModelStage>().notNull().default("candidate"),
    notes: text("notes").notNull().default(""),
    /** Signed list of the files' digests and the lineage; null until it was made. */
    manifest: jsonb("manifest").$type<SignedManifest>(),
    /** Grows with each change of stage, notes or aliases. */
    revision: integer("revision").notNull().default(1),
    /** Files were removed by a retention rule; the row stays as history. */
    filesRemovedAt: time("files_removed_at"),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [primaryKey({ columns: [table.name, table.version] })],
);

/** Names that point at a version of a model: `production` is one. */
export const modelAliases = pgTable(
  "model_aliases",
  {
    name: text("name").notNull(),
    alias: text("alias").notNull(),
    version: integer("version").notNull(),
    updatedAt: updatedAt(),
    updatedBy: text("updated_by").notNull(),
  },
  (table) => [primaryKey({ columns: [table.name, table.alias] })],
);

/** History of a model: one row per change of stage, alias or notes; `key` makes retries harmless. */
export const modelEvents = pgTable(
  "model_events",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    name: text("name").notNull(),
    version: integer("version").notNull(),
    key: text("key").notNull().unique(),
    time: time("time").notNull().defaultNow(),
    actor: text("actor").notNull(),
    type: text("type").$type<ModelEventType>().notNull(),
    from: text("from_value"),
    to: text("to_value"),
    message: text("message").notNull(),
  },
  (table) => [index("model_events_model").on(table.name, table.version, table.id)],
);

/** What may be removed of a model's versions; one row a model. */
export const retentionRules = pgTable("retention_rules", {
  name: text("name").primaryKey(),
  rule: jsonb("rule").$type<RetentionRule>().notNull(),
  updatedAt: updatedAt(),
});

/** Predictions of a model in use, with or without truth, as applications reported them. */
export const observations = pgTable(
  "observations",
  {
    id: text("id").primaryKey(),
    modelName: text("model_name").notNull(),
    modelVersion: integer("model_version").notNull(),
    /** The reporter's own id of the sample: said twice, it counts once. */
    key: text("key").notNull(),
    time: time("time").notNull(),
    task: text("task").notNull(),
    body: jsonb("body").$type<Observation>().notNull(),
    createdAt: createdAt(),
  },
  (table) => [
    unique("observations_key").on(table.modelName, table.modelVersion, table.key),
    index("observations_model").on(table.modelName, table.modelVersion, table.time),
    index("observations_newest").on(table.modelName, table.id),
  ],
);

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

/** Several models times several data-set versions; each pair is an evaluation of its own. */
export const evaluationSuites = pgTable("evaluation_suites", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  spec: jsonb("spec").$type<EvaluationSuiteSpec>().notNull(),
  createdAt: createdAt(),
  updatedAt: updatedAt(),
});

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

export const evaluations = pgTable(
  "evaluations",
  {
    id: text("id").primaryKey(),
    runId: text("run_id"),
    suiteId: text("suite_id").references(() => evaluationSuites.id),
    phase: text("phase").$type<"before" | "during" | "after" | "standalone">().notNull(),
    step: integer("step"),
    state: text("state").$type<Evaluation["state"]>().notNull(),
    message: text("message").notNull(),
    spec: jsonb("spec").$type<EvaluationSpec>().notNull(),
    scores: jsonb("scores").$type<Scores>(),
    samples: integer("samples").notNull(),
    seconds: doublePrecision("seconds"),
    resultsKey: text("results_key"),
    /** Confidence intervals and scores by slice. */
    details: jsonb("details").$type<EvaluationDetails>(),
    createdAt: createdAt(),
    updatedAt: updatedAt(),
  },
  (table) => [index("evaluations_run").on(table.runId, table.id), index("evaluations_suite").on(table.suiteId)],
);

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
