import type {
  ModelEventType,
  ModelRegistration,
  ModelStage,
  Observation,
  RetentionRule,
  SignedManifest,
} from "@drydock/spec";
import { bigint, index, integer, jsonb, pgTable, primaryKey, text, unique } from "drizzle-orm/pg-core";
import { createdAt, time, updatedAt } from "./columns.ts";

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
    index("observations_time").on(table.time),
  ],
);
