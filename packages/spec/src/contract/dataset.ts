import { z } from "zod";
import { Name, Task, Timestamp } from "./common.ts";
import { DataRecord } from "./record.ts";

export const ImportFormat = z
  .enum(["auto", "coco", "yolo", "vi-jsonl", "llava-json", "openai-jsonl", "csv"])
  .meta({ id: "ImportFormat" });
export type ImportFormat = z.infer<typeof ImportFormat>;

/** One finding about a row or a file. `error` rows are left out (or stop the import, by policy); `warning` rows stay in. */
export const ValidationIssue = z
  .object({
    severity: z.enum(["error", "warning"]),
    code: z.string(),
    file: z.string(),
    row: z.int().positive().nullable(),
    path: z.string().nullable(),
    message: z.string(),
  })
  .meta({ id: "ValidationIssue" });
export type ValidationIssue = z.infer<typeof ValidationIssue>;

/** Facts about a version that the planner needs. Arrays hold at most 10,000 entries, sampled evenly. */
export const DatasetStatistics = z
  .object({
    rows: z.int().nonnegative(),
    trainRows: z.int().nonnegative(),
    validationRows: z.int().nonnegative(),
    images: z.int().nonnegative(),
    pairs: z.int().nonnegative(),
    boxes: z.int().nonnegative(),
    tasks: z.record(z.string(), z.int()),
    /** One entry per sampled row: [width, height] of its pictures in pixels, characters of prompt and answer, and their tokens where a tokenizer was at hand. */
    samples: z.array(
      z.object({
        images: z.array(z.tuple([z.int(), z.int()])),
        promptCharacters: z.int(),
        answerCharacters: z.int(),
        promptTokens: z.int().optional(),
        answerTokens: z.int().optional(),
      }),
    ),
  })
  .meta({ id: "DatasetStatistics" });
export type DatasetStatistics = z.infer<typeof DatasetStatistics>;

export const ValidationReport = z
  .object({
    rowsRead: z.int().nonnegative(),
    rowsAccepted: z.int().nonnegative(),
    errors: z.int().nonnegative(),
    warnings: z.int().nonnegative(),
    /** The first 1,000; counts above are of all. */
    issues: z.array(ValidationIssue),
    byCode: z.record(z.string(), z.int()),
  })
  .meta({ id: "ValidationReport" });
export type ValidationReport = z.infer<typeof ValidationReport>;

export const ImportOptions = z
  .strictObject({
    format: ImportFormat.default("auto"),
    task: Task.optional(),
    /** Share of rows that go to the validation split when the data has no split of its own (folders `train`/`valid`, a `split` field). Pictures never cross splits. */
    validationShare: z.number().min(0).max(0.9).default(0.2),
    seed: z.int().min(0).default(42),
    /** `reject-row` leaves bad rows out and reports them; `reject-all` refuses the version at the first bad row. */
    onBadRow: z.enum(["reject-row", "reject-all"]).default("reject-row"),
    /** The question asked for a grounding row that has none. `{phrases}` is replaced. */
    groundingPrompt: z.string().max(2000).optional(),
  })
  .meta({ id: "ImportOptions" });
export type ImportOptions = z.output<typeof ImportOptions>;

export const DatasetCreation = z
  .strictObject({ name: Name, description: z.string().max(2000).default("") })
  .meta({ id: "DatasetCreation" });

export const Dataset = z
  .object({
    id: z.string(),
    name: Name,
    description: z.string(),
    latestVersion: z.int().nullable(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Dataset" });
export type Dataset = z.infer<typeof Dataset>;

export const DatasetVersion = z
  .object({
    id: z.string(),
    dataset: Name,
    version: z.int().positive(),
    state: z.enum(["validating", "ready", "failed"]),
    reason: z.string().nullable(),
    options: ImportOptions,
    digest: z.string().nullable(),
    statistics: DatasetStatistics.omit({ samples: true }).nullable(),
    report: ValidationReport.omit({ issues: true }).nullable(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "DatasetVersion" });
export type DatasetVersion = z.infer<typeof DatasetVersion>;

/** Rows as stored, with URLs of their pictures, for people to look at. */
export const DatasetPreview = z
  .object({ rows: z.array(DataRecord.extend({ imageUrls: z.array(z.string()) })), total: z.int() })
  .meta({ id: "DatasetPreview" });
