import { hostname } from "node:os";
import { InvalidError, type Logger, type ObjectStorage } from "@drydock/kit";
import type { QueueQuotas } from "../attempts/cluster-capacity.ts";
import { checkAccess } from "./check-access.ts";
import { gangSettings } from "./gang-settings.ts";
import { KubeApi } from "./kube-api.ts";
import { connectToCluster } from "./kube-connection.ts";
import { KubernetesBackend } from "./kubernetes-backend.ts";
import { LeaderElection } from "./leader-election.ts";

/** What the operator said of the cluster. */
export interface KubernetesConfig {
  /** Null: from inside a pod. */
  readonly kubeconfig: string | null;
  /** Namespace of the workers. */
  readonly namespace: string;
  /** Namespace of the controller's own Lease. */
  readonly ownNamespace: string;
  readonly image: string;
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never";
  readonly imagePullSecret: string | null;
  /** `auto`: when the cluster has Kueue's API. */
  readonly kueue: "auto" | "on" | "off";
  readonly nodeLossSeconds: number;
  readonly keepFinishedSeconds: number;
  readonly memoryPerRankBytes: number | null;
  readonly cpuPerRank: number | null;
  readonly scratchBytes: number | null;
  readonly rackLabel: string;
  /** GPUs that queues may use, where there is no Kueue. */
  readonly queueQuotas: QueueQuotas;
}

/** A cluster that is ready to start gangs. */
export interface OpenCluster {
  readonly api: KubeApi;
  readonly backend: KubernetesBackend;
  readonly usesKueue: boolean;
  readonly election: LeaderElection;
}

/** Environment of workers that says where storage is, and the part of it that is secret. */
const storageVariables = [
  "S3_ENDPOINT",
  "S3_REGION",
  "S3_FORCE_PATH_STYLE",
  "S3_PART_SIZE_MIB",
  "S3_PARALLEL_PARTS",
  "AWS_REGION",
  "DRYDOCK_LOG_LEVEL",
  "DRYDOCK_CACHE_GIB",
];
const storageSecrets = [
  "S3_ACCESS_KEY_ID",
  "S3_SECRET_ACCESS_KEY",
  "AWS_ACCESS_KEY_ID",
  "AWS_SECRET_ACCESS_KEY",
  "AWS_SESSION_TOKEN",
];

/**
 * Connects to the cluster and checks our rights; nothing is started yet.
 *
 * @throws InvalidError, ForbiddenError, UnavailableError with a sentence for the operator
 */
export async function openKubernetes(
  config: KubernetesConfig,
  environment: Readonly<Record<string, string | undefined>>,
  { storage, logger, onLost }: { storage: ObjectStorage; logger: Logger; onLost: () => void },
): Promise<OpenCluster> {
  const api = new KubeApi(await connectToCluster(config.kubeconfig));
  const hasKueue = (await api.find("/apis/kueue.x-k8s.io/v1beta2")) !== null;
  if (config.kueue === "on" && !hasKueue)
    throw new InvalidError(
      "no_kueue",
      `DRYDOCK_KUEUE is on, but the cluster at ${api.server} has no API kueue.x-k8s.io/v1beta2: install Kueue 0.18 or later, or set DRYDOCK_KUEUE=off`,
    );
  const usesKueue = config.kueue === "auto" ? hasKueue : config.kueue === "on";
  if (usesKueue && Object.keys(config.queueQuotas).length > 0)
    throw new InvalidError(
      "quotas_are_kueues",
      "DRYDOCK_QUEUE_QUOTAS is set, but this cluster's queues are Kueue's: set the quotas in its ClusterQueues (k8s/queues/cluster-queues.yaml), or set DRYDOCK_KUEUE=off",
    );
  await checkAccess(api, config.namespace, usesKueue);
  const settings = gangSettings({
    namespace: config.namespace,
    image: config.image,
    imagePullPolicy: config.imagePullPolicy,
    imagePullSecret: config.imagePullSecret,
    nodeLossSeconds: config.nodeLossSeconds,
    keepFinishedSeconds: config.keepFinishedSeconds,
    usesKueue,
    rackLabel: config.rackLabel,
    environment: picked(environment, storageVariables),
    secrets: picked(environment, storageSecrets),
    ...(config.memoryPerRankBytes === null ? {} : { memoryPerRankBytes: config.memoryPerRankBytes }),
    ...(config.cpuPerRank === null ? {} : { cpuPerRank: config.cpuPerRank }),
    ...(config.scratchBytes === null ? {} : { scratchBytes: config.scratchBytes }),
  });
  const backend = new KubernetesBackend({ api, settings, storage, logger });
  const election = new LeaderElection({
    api,
    namespace: config.ownNamespace,
    name: "drydock-controller",
    identity: `${hostname()}-${process.pid}`,
    logger,
    onLost,
  });
  return { api, backend, usesKueue, election };
}

function picked(
  environment: Readonly<Record<string, string | undefined>>,
  names: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = environment[name];
      return value === undefined || value === "" ? [] : [[name, value] as const];
    }),
  );
}
