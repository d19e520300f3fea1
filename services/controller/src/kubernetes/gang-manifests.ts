import { createHash } from "node:crypto";
import { canonicalJson } from "@drydock/kit";
import type { GangSpec } from "../backend/cluster-backend.ts";
import type { KubeObject } from "./kube-objects.ts";
import { annotations, jobName, labels, managedBy } from "./names.ts";

/** How this cluster runs workers; set by its operator. */
export interface WorkerPodSettings {
  readonly namespace: string;
  readonly image: string;
  readonly imagePullPolicy: "Always" | "IfNotPresent" | "Never";
  readonly imagePullSecret: string | null;
  /** Environment of every worker, beside the gang's own: where storage is. */
  readonly environment: Readonly<Record<string, string>>;
  /** The same for keys of storage; they go into the gang's Secret. */
  readonly secrets: Readonly<Record<string, string>>;
  /** GPU feature discovery's product labels, by accelerator of the catalogue. */
  readonly productLabels: Readonly<Record<string, readonly string[]>>;
  /** Label of nodes that says in which rack they are. */
  readonly rackLabel: string;
  /** Cores that a rank asks for. */
  readonly cpuPerRank: number;
  /** Memory of a rank for which nothing else says how much. */
  readonly memoryPerRankBytes: number;
  /** Shared memory of a pod; counted in its memory limit. */
  readonly sharedMemoryBytes: number;
  readonly scratchBytes: number;
  /** A node may be away for so long before its pods are given up. */
  readonly nodeLossSeconds: number;
  /** Finished Jobs are kept for so long. */
  readonly keepFinishedSeconds: number;
  /** True: Jobs wait suspended until Kueue admits them. */
  readonly usesKueue: boolean;
  /** Kueue's LocalQueue by queue of Drydock; a queue that is not named has a LocalQueue of its own name. */
  readonly localQueues: Readonly<Record<string, string>>;
}

/** The objects of one attempt. The Secret belongs to the Job and goes with it. */
export interface GangManifests {
  readonly job: KubeObject;
  readonly secret: KubeObject;
}

const scratchPath = "/scratch";
const gpuResource = "nvidia.com/gpu";

/**
 * Objects for a gang: one Indexed Job and a Secret. No Service: ranks tell each other their pods' addresses when they join,
 * and its endpoints would be written again whenever a pod starts or ends. Pure.
 */
export function gangManifests(spec: GangSpec, settings: WorkerPodSettings): GangManifests {
  const name = jobName(spec.name);
  const common = commonLabels(spec);
  const metadata = { name, namespace: settings.namespace, labels: common };
  const job = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      ...metadata,
      labels: { ...common, ...queueLabels(spec, settings) },
      annotations: {
        [annotations.specDigest]: specDigest(spec),
        [annotations.gang]: spec.name,
        ...(spec.placement.accelerator === null ? {} : { [annotations.accelerator]: spec.placement.accelerator }),
        [annotations.gpusPerRank]: String(spec.placement.gpusPerRank),
        [annotations.queue]: spec.placement.queue,
        [annotations.logKeys]: JSON.stringify(spec.logKeys),
      },
    },
    spec: {
      completionMode: "Indexed",
      completions: spec.ranks,
      parallelism: spec.ranks,
      // The controller decides on retries, from the last checkpoint: a Job that replaced one rank would leave the others hanging.
      backoffLimit: 0,
      podReplacementPolicy: "Failed",
      ttlSecondsAfterFinished: settings.keepFinishedSeconds,
      suspend: settings.usesKueue,
      template: { metadata: { labels: common }, spec: podSpec(spec, settings, name) },
    },
  };
  return { job, secret: gangSecret(spec, settings) };
}

/** What the pods of a gang read as their environment and nobody else may. */
export function gangSecret(
  spec: Pick<GangSpec, "name" | "secrets">,
  { namespace, secrets }: Pick<WorkerPodSettings, "namespace" | "secrets">,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: jobName(spec.name), namespace, labels: commonLabels(spec) },
    immutable: true,
    stringData: { ...secrets, ...spec.secrets },
  };
}

/** Digest of what a gang is asked to be, without what only this try knows. */
export function specDigest({ name, ranks, placement, memoryLimitBytes }: GangSpec): string {
  const asked = { name, ranks, memoryLimitBytes, accelerator: placement.accelerator, gpus: placement.gpusPerRank };
  return createHash("sha256").update(canonicalJson(asked)).digest("hex").slice(0, 16);
}

function commonLabels({ name }: Pick<GangSpec, "name">): Record<string, string> {
  const [, run = name, epoch = "0"] = /^(.+)-a(\d+)$/.exec(name) ?? [];
  return { [labels.managedBy]: managedBy, [labels.gang]: jobName(name), [labels.run]: run, [labels.epoch]: epoch };
}

function queueLabels({ placement }: GangSpec, settings: WorkerPodSettings): Record<string, string> {
  if (!settings.usesKueue) return {};
  return {
    [labels.queue]: settings.localQueues[placement.queue] ?? placement.queue,
    [labels.kueuePriority]: kueuePriority(placement.priority),
  };
}

/** Kueue's WorkloadPriorityClass of a run's priority (k8s/queues). */
export function kueuePriority(priority: GangSpec["placement"]["priority"]): string {
  return `drydock-${priority}`;
}

function podSpec(spec: GangSpec, settings: WorkerPodSettings, name: string): object {
  const { placement } = spec;
  const hasGpus = placement.gpusPerRank > 0;
  return {
    restartPolicy: "Never",
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: Math.ceil(spec.stopGraceMs / 1000),
    priorityClassName: `drydock-${placement.priority}`,
    ...(settings.imagePullSecret === null ? {} : { imagePullSecrets: [{ name: settings.imagePullSecret }] }),
    securityContext: {
      runAsNonRoot: true,
      runAsUser: 65532,
      runAsGroup: 65532,
      fsGroup: 65532,
      seccompProfile: { type: "RuntimeDefault" },
    },
    affinity: affinityOf(spec, settings, name),
    tolerations: [
      ...["not-ready", "unreachable"].map((trouble) => ({
        key: `node.kubernetes.io/${trouble}`,
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: settings.nodeLossSeconds,
      })),
      ...(hasGpus ? [{ key: gpuResource, operator: "Exists", effect: "NoSchedule" }] : []),
    ],
    volumes: [
      { name: "scratch", emptyDir: { sizeLimit: String(settings.scratchBytes) } },
      { name: "tmp", emptyDir: { sizeLimit: String(2 ** 30) } },
      { name: "shared-memory", emptyDir: { medium: "Memory", sizeLimit: String(settings.sharedMemoryBytes) } },
    ],
    containers: [container(spec, settings, name)],
  };
}

function container(spec: GangSpec, settings: WorkerPodSettings, name: string): object {
  const { placement } = spec;
  const memory = String((spec.memoryLimitBytes ?? settings.memoryPerRankBytes) + settings.sharedMemoryBytes);
  const gpus = placement.gpusPerRank > 0 ? { [gpuResource]: String(placement.gpusPerRank) } : {};
  const disk = { "ephemeral-storage": String(settings.scratchBytes + 2 * 2 ** 30) };
  return {
    name: "worker",
    image: settings.image,
    imagePullPolicy: settings.imagePullPolicy,
    args: ["rank"],
    env: [
      ...Object.entries({ ...settings.environment, ...spec.environment, ...ownPaths }).map(([key, value]) => ({
        name: key,
        value,
      })),
      { name: "DRYDOCK_WORLD_SIZE", value: String(spec.ranks) },
      fromField("DRYDOCK_RANK", `metadata.annotations['${labels.rank}']`),
      fromField("DRYDOCK_LISTEN_HOST", "status.podIP"),
      fromField("DRYDOCK_NODE", "spec.nodeName"),
    ],
    envFrom: [{ secretRef: { name } }],
    resources: {
      requests: { cpu: String(settings.cpuPerRank), memory, ...disk, ...gpus },
      limits: { memory, ...disk, ...gpus },
    },
    terminationMessagePolicy: "FallbackToLogsOnError",
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    },
    volumeMounts: [
      { name: "scratch", mountPath: scratchPath },
      { name: "tmp", mountPath: "/tmp" },
      { name: "shared-memory", mountPath: "/dev/shm" },
    ],
  };
}

/** Paths in the pod, in place of the controller's own. */
const ownPaths = { DRYDOCK_SCRATCH: `${scratchPath}/run`, DRYDOCK_CACHE: `${scratchPath}/cache`, HOME: "/tmp" };

function fromField(name: string, fieldPath: string): object {
  return { name, valueFrom: { fieldRef: { fieldPath } } };
}

/** Nodes of the right product, none that is to be avoided, those that are in use first, ranks near each other. */
function affinityOf({ placement, ranks }: GangSpec, settings: WorkerPodSettings, name: string): object {
  const { accelerator, avoidNodes } = placement;
  const products = accelerator === null ? [] : (settings.productLabels[accelerator] ?? [accelerator]);
  const matchExpressions = [
    ...(products.length === 0 ? [] : [{ key: "nvidia.com/gpu.product", operator: "In", values: products }]),
    ...(avoidNodes.length === 0 ? [] : [{ key: "kubernetes.io/hostname", operator: "NotIn", values: [...avoidNodes] }]),
  ];
  return {
    ...(matchExpressions.length === 0
      ? {}
      : {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions }] },
          },
        }),
    podAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        // Nodes that are in use fill up first: a gang needs whole nodes, and the scheduler's own way is to spread.
        near({ [labels.managedBy]: managedBy }, "kubernetes.io/hostname", 50),
        // Ranks talk to each other at every step: on one node if they fit, else in one rack, else in one zone.
        ...(ranks === 1
          ? []
          : [
              near({ [labels.job]: name }, "kubernetes.io/hostname", 100),
              near({ [labels.job]: name }, settings.rackLabel, 80),
              near({ [labels.job]: name }, "topology.kubernetes.io/zone", 60),
            ]),
      ],
    },
  };
}

/** A wish to be where pods with these labels are. */
function near(matchLabels: Readonly<Record<string, string>>, topologyKey: string, weight: number): object {
  return { weight, podAffinityTerm: { labelSelector: { matchLabels }, topologyKey } };
}
