import type { DatasetStatistics, ImportOptions, ValidationReport } from "@drydock/spec";
import { integer, jsonb, pgTable, text, unique } from "drizzle-orm/pg-core";
import { bytes, createdAt, updatedAt } from "./columns.ts";

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
