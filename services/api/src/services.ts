import { Ed25519Signer, SecretBox, type Logger, type ObjectStorage } from "@drydock/kit";
import type { AcceleratorSupply } from "@drydock/spec";
import { Housekeeping } from "./housekeeping.ts";
import { LiveScores } from "./pipelines/live-scores.ts";
import { ScheduleLoop } from "./pipelines/schedule-loop.ts";
import { ModelDirectory } from "./planning/model-directory.ts";
import { RunPlanner } from "./planning/run-planner.ts";
import { WarmStarts } from "./planning/warm-starts.ts";
import { ModelVerifier } from "./registry/model-verifier.ts";
import { RunFeed } from "./runs/run-feed.ts";
import { QueueForecasts } from "./scheduling/queue-forecasts.ts";
import { SharedGates } from "./pipelines/shared-gates.ts";
import { Statistics } from "./statistics/statistics.ts";
import { ClusterStore } from "./store/cluster-store.ts";
import type { Database, OpenDatabase } from "./store/database.ts";
import { DatasetStore } from "./store/dataset-store.ts";
import { EvaluationStore } from "./store/evaluation-store.ts";
import { KeyStore } from "./store/key-store.ts";
import { ModelStore } from "./store/model-store.ts";
import { ObservationStore } from "./store/observation-store.ts";
import { PipelineStore } from "./store/pipeline-store.ts";
import { RunReportStore } from "./store/run-report-store.ts";
import { RunStore } from "./store/run-store.ts";
import { SuiteStore } from "./store/suite-store.ts";
import { SweepStore } from "./store/sweep-store.ts";
import { WebhookStore } from "./store/webhook-store.ts";
import { WriteUnit } from "./store/write-unit.ts";
import { WebhookLoop, type WebhookTiming } from "./webhooks/webhook-loop.ts";
import { WebhookTargets } from "./webhooks/webhook-targets.ts";
import { Outbox, type OutboxTiming } from "./workflows/outbox.ts";
import type { Workflows } from "./workflows/workflows.ts";

/** What the api is made from; a test gives its own. */
export interface ServiceOptions {
  readonly database: OpenDatabase;
  readonly storage: ObjectStorage;
  readonly workflows: Workflows;
  readonly logger: Logger;
  readonly modelsDirectory: string;
  readonly supply: readonly AcceleratorSupply[] | undefined;
  readonly internalKey: string;
  /** PEM of the Ed25519 key that manifests of models are signed with. Default: one that follows from the internal key. */
  readonly signingKey?: string | undefined;
  /** Where downloads come from: `redirect` = from storage by presigned URLs where it can, `stream` = always through us. Default `redirect`. */
  readonly downloads?: "redirect" | "stream";
  readonly outboxTiming?: OutboxTiming;
  /** Addresses and networks that are not public and that webhooks may go to all the same. */
  readonly webhookAllow?: readonly string[];
  readonly webhookTiming?: WebhookTiming;
  readonly limits?: Partial<Limits>;
}

export interface Limits {
  readonly bodyBytes: number;
  readonly uploadFileBytes: number;
  readonly uploadTotalBytes: number;
  readonly uploadFiles: number;
}

const defaultLimits: Limits = {
  bodyBytes: 1 << 20,
  uploadFileBytes: 20 * 2 ** 30,
  uploadTotalBytes: 50 * 2 ** 30,
  uploadFiles: 50_000,
};

/** Everything that routes may depend on, wired. */
export interface Services {
  readonly database: Database;
  readonly pingDatabase: () => Promise<void>;
  readonly storage: ObjectStorage;
  readonly downloads: "redirect" | "stream";
  readonly workflows: Workflows;
  readonly logger: Logger;
  readonly outbox: Outbox;
  readonly schedules: ScheduleLoop;
  readonly feed: RunFeed;
  readonly writes: WriteUnit;
  readonly runs: RunStore;
  readonly sweeps: SweepStore;
  readonly pipelines: PipelineStore;
  readonly observations: ObservationStore;
  readonly reports: RunReportStore;
  readonly datasets: DatasetStore;
  readonly models: ModelStore;
  readonly evaluations: EvaluationStore;
  readonly suites: SuiteStore;
  readonly keys: KeyStore;
  readonly statistics: Statistics;
  readonly gates: SharedGates;
  readonly liveScores: LiveScores;
  readonly housekeeping: Housekeeping;
  readonly webhooks: WebhookStore;
  readonly webhookTargets: WebhookTargets;
  readonly webhookLoop: WebhookLoop;
  /** Seals secrets that must be read again. */
  readonly secrets: SecretBox;
  readonly cluster: ClusterStore;
  readonly forecasts: QueueForecasts;
  readonly planner: RunPlanner;
  readonly modelDirectory: ModelDirectory;
  /** Signs the manifests of models. */
  readonly signer: Ed25519Signer;
  readonly verifier: ModelVerifier;
  readonly supply: readonly AcceleratorSupply[] | undefined;
  readonly internalKey: string;
  readonly limits: Limits;
  /** Fires when the server closes, so that open streams end. */
  readonly closing: AbortSignal;
}

export function createServices(options: ServiceOptions, closing: AbortSignal): Services {
  const { storage, workflows, logger, supply, internalKey } = options;
  const { database, ping } = options.database;
  const outbox = new Outbox(database, workflows, logger, options.outboxTiming);
  const models = new ModelStore(database);
  const datasets = new DatasetStore(database);
  const runs = new RunStore(database);
  const reports = new RunReportStore(database);
  const observations = new ObservationStore(database);
  const statistics = new Statistics();
  const cluster = new ClusterStore(database);
  const forecasts = new QueueForecasts(cluster);
  const signer =
    options.signingKey === undefined
      ? Ed25519Signer.ofSecret(internalKey, "drydock model manifests")
      : Ed25519Signer.ofPem(options.signingKey);
  const secrets = SecretBox.ofSecret(internalKey, "drydock webhook secrets");
  const webhookTargets = new WebhookTargets(options.webhookAllow ?? []);
  const modelDirectory = new ModelDirectory({ modelsDirectory: options.modelsDirectory, storage, models });
  return {
    database,
    storage,
    downloads: options.downloads ?? "redirect",
    workflows,
    logger,
    supply,
    internalKey,
    closing,
    models,
    datasets,
    cluster,
    forecasts,
    modelDirectory,
    signer,
    verifier: new ModelVerifier({ database, storage, signer }),
    pingDatabase: ping,
    outbox,
    schedules: new ScheduleLoop({ database, logger, models, observations, statistics, started: () => outbox.kick() }),
    feed: new RunFeed(),
    writes: new WriteUnit(database),
    runs,
    sweeps: new SweepStore(database),
    pipelines: new PipelineStore(database),
    observations,
    reports,
    evaluations: new EvaluationStore(database),
    suites: new SuiteStore(database),
    keys: new KeyStore(database),
    statistics,
    gates: new SharedGates(),
    liveScores: new LiveScores({ observations, statistics }),
    housekeeping: new Housekeeping({ database, storage, logger }),
    webhooks: new WebhookStore(database),
    webhookTargets,
    webhookLoop: new WebhookLoop({
      database,
      logger,
      targets: webhookTargets,
      secrets,
      timing: options.webhookTiming,
    }),
    secrets,
    planner: new RunPlanner({
      datasets,
      models: modelDirectory,
      warmStarts: new WarmStarts({ runs, reports, storage }),
      supply,
      queueOf: async (plan, spec) => await forecasts.queueOfPlan(plan, spec),
    }),
    limits: {
      ...defaultLimits,
      ...options.limits,
    },
  };
}
