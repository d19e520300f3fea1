import { z } from "zod";
import { Name, Timestamp } from "./common.ts";
import { ModelAlias } from "./model-alias.ts";
import { Lineage, ModelFile, ModelStage } from "./model.ts";
import { Scores } from "./run.ts";

/** Lower-case hex SHA-256. */
const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Message = z.string().max(2_000);

/** Body of `POST /v1/models/{name}/versions/{version}/stage`. */
export const StageChange = z.strictObject({ to: ModelStage, message: Message.default("") }).meta({ id: "StageChange" });
export type StageChange = z.infer<typeof StageChange>;

/** Body of `PATCH /v1/models/{name}/versions/{version}`. */
export const ModelChange = z.strictObject({ notes: z.string().max(20_000) }).meta({ id: "ModelChange" });

/** Body of `PUT /v1/models/{name}/aliases/{alias}`. */
export const AliasChange = z.strictObject({ version: z.int().positive() }).meta({ id: "AliasChange" });

/** Body of `POST /v1/models/{name}/rollback`. */
export const RollbackRequest = z.strictObject({ message: Message.default("") }).meta({ id: "RollbackRequest" });

/** A name that points at a version. */
export const AliasTarget = z
  .object({ alias: ModelAlias, version: z.int().positive(), updatedAt: Timestamp, updatedBy: z.string() })
  .meta({ id: "AliasTarget" });
export type AliasTarget = z.infer<typeof AliasTarget>;

export const ModelEventType = z.enum([
  "model.registered",
  "model.promoted",
  "model.rolled-back",
  "model.retired",
  "stage.changed",
  "alias.moved",
  "alias.removed",
  "notes.changed",
  "manifest.signed",
  "files.removed",
]);
export type ModelEventType = z.infer<typeof ModelEventType>;

/** One row of a model's history. `id` grows. */
export const ModelEvent = z
  .object({
    id: z.int().positive(),
    name: Name,
    version: z.int().positive(),
    time: Timestamp,
    actor: z.string(),
    type: ModelEventType,
    /** Stages of a change of stage; versions of a promotion, a rollback and an alias. */
    from: z.string().nullable(),
    to: z.string().nullable(),
    message: z.string(),
  })
  .meta({ id: "ModelEvent" });
export type ModelEvent = z.infer<typeof ModelEvent>;

/** What a promotion or a rollback did. */
export const PromotionResult = z
  .object({
    name: Name,
    /** In production now. */
    version: z.int().positive(),
    /** In production before; null when there was none. */
    previous: z.int().positive().nullable(),
    /** False when the version was in production already. */
    isChanged: z.boolean(),
    /** True when the same key did it before, and nothing was done now. */
    isReplay: z.boolean(),
  })
  .meta({ id: "PromotionResult" });
export type PromotionResult = z.infer<typeof PromotionResult>;

/** What is signed: every file's digest, where the model came from, who made it and when. */
export const ModelManifest = z
  .object({
    format: z.literal("drydock-model-manifest/1"),
    name: Name,
    version: z.int().positive(),
    kind: z.enum(["adapter", "full"]),
    /** By name. */
    files: z.array(ModelFile),
    lineage: Lineage,
    /** Who submitted the run that made it. */
    createdBy: z.string(),
    createdAt: Timestamp,
  })
  .meta({ id: "ModelManifest" });
export type ModelManifest = z.infer<typeof ModelManifest>;

/** A manifest, and an Ed25519 signature of its canonical JSON (keys sorted at every level, no spaces, UTF-8). */
export const SignedManifest = z
  .object({
    manifest: ModelManifest,
    /** SHA-256 of the canonical JSON. */
    digest: Sha256,
    signature: z.object({
      algorithm: z.literal("ed25519"),
      keyId: z.string(),
      /** base64 */
      value: z.string(),
      signedAt: Timestamp,
    }),
  })
  .meta({ id: "SignedManifest" });
export type SignedManifest = z.infer<typeof SignedManifest>;

/** The key that manifests of this deployment are verified with: `GET /v1/signing-key`. */
export const SigningKey = z
  .object({
    algorithm: z.literal("ed25519"),
    keyId: z.string(),
    /** PEM of the SubjectPublicKeyInfo. */
    publicKey: z.string(),
  })
  .meta({ id: "SigningKey" });
export type SigningKey = z.infer<typeof SigningKey>;

/** What is wrong with a file of a model, or with its manifest. */
export const ModelProblem = z
  .object({
    /** Name of the file; null when the manifest is meant. */
    file: z.string().nullable(),
    code: z.enum(["missing", "size", "digest", "unexpected", "no_manifest", "signature", "unknown_key", "changed"]),
    /** A sentence that names the file. */
    message: z.string(),
  })
  .meta({ id: "ModelProblem" });
export type ModelProblem = z.infer<typeof ModelProblem>;

/** What comparing a model's files in storage with its signed manifest found. */
export const ModelVerification = z
  .object({
    name: Name,
    version: z.int().positive(),
    isSound: z.boolean(),
    /** Of the manifest that was compared with; null when there is none. */
    manifestDigest: Sha256.nullable(),
    keyId: z.string().nullable(),
    files: z.int().nonnegative(),
    sizeBytes: z.int().nonnegative(),
    problems: z.array(ModelProblem),
    checkedAt: Timestamp,
  })
  .meta({ id: "ModelVerification" });
export type ModelVerification = z.infer<typeof ModelVerification>;

/** One version in a comparison. */
export const ComparedModel = z.object({
  version: z.int().positive(),
  stage: ModelStage,
  aliases: z.array(ModelAlias),
  kind: z.enum(["adapter", "full"]),
  base: z.string(),
  runId: z.string(),
  dataset: z.string(),
  datasetDigest: z.string().nullable(),
  codeVersion: z.string().nullable(),
  sizeBytes: z.int().nonnegative(),
  createdAt: Timestamp,
});

/** A field in which the versions differ. Values are in the order of `versions`; null where it is not there. */
export const ComparedField = z.object({ path: z.string(), values: z.array(z.unknown()) });

/** Versions of a model beside each other. The first is what others are measured against. */
export const ModelComparison = z
  .object({
    name: Name,
    versions: z.array(ComparedModel).min(2),
    /** Fields of the run specs that differ. */
    spec: z.array(ComparedField),
    /** Fields of the lineages that differ, scores aside. */
    lineage: z.array(ComparedField),
    scores: z.array(
      z.object({
        metric: z.string(),
        /** After training; null where it was not measured. */
        values: z.array(z.number().nullable()),
        /** Value minus the first one's. */
        differences: z.array(z.number().nullable()),
      }),
    ),
    /** Score of each version's base, where it was measured. */
    scoresBefore: z.array(Scores.nullable()),
  })
  .meta({ id: "ModelComparison" });
export type ModelComparison = z.infer<typeof ModelComparison>;

/** Which versions of a model are kept whatever happens; the files of others may be removed when nothing refers to them. */
export const RetentionRule = z
  .strictObject({
    /** The newest versions, so many. */
    keepLast: z.int().min(1).max(10_000).default(5),
    /** `production` is always kept. */
    keepStages: z.array(ModelStage).default(["production", "staging"]),
    /** Versions that are younger. */
    minimumAgeDays: z.number().min(0).max(36_500).default(30),
    /** The best versions by a score after training, so many. */
    keepBest: z.strictObject({ metric: z.string().min(1), count: z.int().min(1).max(1000) }).optional(),
    /** Applied once an hour; otherwise only when somebody asks for it. */
    automatic: z.boolean().default(false),
  })
  .meta({ id: "RetentionRule" });
export type RetentionRule = z.infer<typeof RetentionRule>;

export const StoredRetentionRule = z
  .object({ name: Name, rule: RetentionRule, updatedAt: Timestamp })
  .meta({ id: "StoredRetentionRule" });

/** What a rule would do, or did. */
export const RetentionOutcome = z
  .object({
    name: Name,
    rule: RetentionRule,
    /** False for a dry run. */
    isApplied: z.boolean(),
    items: z.array(
      z.object({
        version: z.int().positive(),
        decision: z.enum(["keep", "remove", "removed-before"]),
        /** A sentence each: what keeps it, or why it goes. */
        reasons: z.array(z.string()),
        sizeBytes: z.int().nonnegative(),
      }),
    ),
    /** Of the versions that are removed. */
    sizeBytes: z.int().nonnegative(),
  })
  .meta({ id: "RetentionOutcome" });
export type RetentionOutcome = z.infer<typeof RetentionOutcome>;

/*
 * What the controller asks of the registry, on `/internal/v1` with the internal key:
 *
 *   GET  /internal/v1/models/:name/versions/:version            version or alias → Model
 *   GET  /internal/v1/models/:name/versions/:version/manifest   → CheckedManifest
 *   POST /internal/v1/models/:name/versions/:version/promote    PromotionOrder   → PromotionResult
 *   POST /internal/v1/models/:name/rollback                     RollbackOrder    → PromotionResult
 */

/** A promotion by a workflow. `key` makes it idempotent. The files were verified against this manifest before. */
export const PromotionOrder = z.strictObject({
  key: z.string().min(1).max(200),
  actor: z.string(),
  message: Message,
  verification: ModelVerification,
  /** What must be in production still, or null for nothing; absent: whatever is. */
  expected: z.int().nullable().optional(),
  /** The run of a pipeline whose candidate this is: promoted only while that is its step, and noted there together. */
  pipelineRun: z.string().max(64).optional(),
});
export type PromotionOrder = z.infer<typeof PromotionOrder>;

export const RollbackOrder = z.strictObject({
  key: z.string().min(1).max(200),
  actor: z.string(),
  message: Message,
});
export type RollbackOrder = z.infer<typeof RollbackOrder>;

/** The files that a model must have, and what is wrong with the manifest itself. */
export const CheckedManifest = z.object({
  manifestDigest: Sha256.nullable(),
  keyId: z.string().nullable(),
  files: z.array(ModelFile),
  problems: z.array(ModelProblem),
});
export type CheckedManifest = z.infer<typeof CheckedManifest>;
