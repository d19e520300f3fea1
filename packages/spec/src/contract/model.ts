import { z } from "zod";
import { Name, Task, Timestamp } from "./common.ts";
import { Scores } from "./run.ts";

export const ModelFile = z
  .object({ name: z.string(), sizeBytes: z.int().nonnegative(), sha256: z.string() })
  .meta({ id: "ModelFile" });
export type ModelFile = z.infer<typeof ModelFile>;

/** Where a model came from, whole: enough to make it again. */
export const Lineage = z
  .object({
    base: z.string(),
    baseDigest: z.string().nullable(),
    runId: z.string(),
    step: z.int(),
    dataset: z.string(),
    datasetDigest: z.string().nullable(),
    mode: z.enum(["lora", "full"]),
    planDigest: z.string(),
    scores: z.object({ before: Scores.nullable(), after: Scores.nullable() }),
    /** Drydock that trained it: its version, and its commit where that is known. Absent in models of before this was kept. */
    codeVersion: z.string().nullable().optional(),
    /** The checkpoint that training began from in place of the base's weights alone. */
    warmStart: z.object({ runId: z.string(), step: z.int(), manifestSha256: z.string() }).nullable().optional(),
  })
  .meta({ id: "Lineage" });
export type Lineage = z.infer<typeof Lineage>;

/** Where a version stands between made and gone. */
export const ModelStage = z.enum(["candidate", "staging", "production", "archived"]).meta({ id: "ModelStage" });
export type ModelStage = z.infer<typeof ModelStage>;

/** One version of a model that Drydock made: files under `models/<name>/<version>/`. */
export const Model = z
  .object({
    name: Name,
    version: z.int().positive(),
    kind: z.enum(["adapter", "full"]),
    task: Task,
    systemPrompt: z.string(),
    files: z.array(ModelFile),
    lineage: Lineage,
    stage: ModelStage,
    aliases: z.array(z.string()),
    notes: z.string(),
    /** Of the signed manifest; null for a model that was made before there were any. */
    manifest: z.object({ digest: z.string(), keyId: z.string(), signedAt: Timestamp }).nullable(),
    /** When a retention rule removed the files; null while they are there. */
    filesRemovedAt: Timestamp.nullable(),
    etag: z.string(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Model" });
export type Model = z.infer<typeof Model>;

/** `drydock.json` beside a model's files: what `predict` must apply. */
export const ModelCard = z.object({
  format: z.literal("drydock-model/1"),
  name: z.string(),
  version: z.int().positive(),
  kind: z.enum(["adapter", "full"]),
  /** Folder or catalogue name of the base that an adapter needs. */
  base: z.string(),
  task: Task,
  systemPrompt: z.string(),
  image: z.object({ minPixels: z.int().optional(), maxPixels: z.int().optional() }),
  lineage: Lineage,
});
export type ModelCard = z.infer<typeof ModelCard>;
