import { availableParallelism } from "node:os";
import { InvalidError } from "@drydock/kit";
import { z } from "zod";
import type { Patience } from "./attempts/watch-gang.ts";
import type { KubernetesConfig } from "./kubernetes/open-kubernetes.ts";

const QueueQuotas = z.record(z.string().min(1), z.record(z.string().min(1), z.int().nonnegative()));
const quotasShape =
  'must be JSON with a whole number of GPUs by queue and accelerator, such as {"default":{"nvidia-h100-80gb":16}}';

/** Null for what is no such JSON. */
function quotasIn(text: string): z.infer<typeof QueueQuotas> | null {
  try {
    return QueueQuotas.parse(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.ZodError) return null;
    throw error;
  }
}

const Environment = z.object({
  TEMPORAL_ADDRESS: z.string().min(1),
  TEMPORAL_NAMESPACE: z.string().min(1).default("default"),
  DRYDOCK_API_URL: z.url(),
  DRYDOCK_INTERNAL_KEY: z.string().min(1),
  STORAGE_URL: z.string().min(1),
  /** Folder with local base models, one folder each. */
  MODELS_DIRECTORY: z.string().min(1),
  /** `1`: workers get models from object storage rather than from this machine's disk. Default: unless the back end is local. */
  DRYDOCK_MODELS_IN_STORAGE: z.enum(["0", "1"]).optional(),
  /** Where the controller keeps what it needs to find its workers again, their scratch space and logs. */
  DRYDOCK_CONTROLLER_STATE: z.string().min(1),
  /** Port of the worker protocol; fixed, so that workers find a controller that was started again. */
  CONTROLLER_PORT: z.coerce.number().int().min(0).max(65535).default(0),
  /** Address that the worker protocol is served on: on a cluster one that pods reach. */
  CONTROLLER_HOST: z.string().min(1).default("127.0.0.1"),
  /** URL by which workers reach the controller; default: the address it is served on. */
  DRYDOCK_CONTROLLER_URL: z.url().optional(),
  /** Where workers run: processes of this computer, or pods of a cluster. */
  DRYDOCK_BACKEND: z.enum(["local", "kubernetes"]).default("local"),
  /** Kubeconfig of the cluster; absent = the service account of the controller's own pod. */
  KUBECONFIG: z.string().min(1).optional(),
  /** Namespace of the workers. */
  DRYDOCK_NAMESPACE: z.string().min(1).default("drydock-runs"),
  /** Namespace of the controller's Lease. */
  DRYDOCK_SYSTEM_NAMESPACE: z.string().min(1).default("drydock-system"),
  DRYDOCK_WORKER_IMAGE: z.string().min(1).default("drydock/worker:0.1.0"),
  DRYDOCK_WORKER_IMAGE_PULL: z.enum(["Always", "IfNotPresent", "Never"]).default("IfNotPresent"),
  /** Secret with the registry's credentials, in the workers' namespace. */
  DRYDOCK_WORKER_IMAGE_SECRET: z.string().min(1).optional(),
  /** Whether Kueue decides on queues, quotas and preemption; `auto`: when the cluster has it. */
  DRYDOCK_KUEUE: z.enum(["auto", "on", "off"]).default("auto"),
  /** Label of nodes that says in which rack they are: ranks of a run are put near each other by it. */
  DRYDOCK_RACK_LABEL: z.string().min(1).default("drydock.dev/rack"),
  /** Without Kueue: GPUs that a queue may use, by queue and accelerator: `{"default":{"nvidia-h100-80gb":16}}`. */
  DRYDOCK_QUEUE_QUOTAS: z
    .string()
    .default("{}")
    .transform((text, context) => quotasIn(text) ?? (context.addIssue(quotasShape), z.NEVER)),
  /** A node may be away for so long before its pods are given up. */
  DRYDOCK_NODE_LOSS_SECONDS: z.coerce.number().int().min(1).default(60),
  /** A finished Job is kept for so long, with its pods and its Secret. */
  DRYDOCK_KEEP_FINISHED_SECONDS: z.coerce.number().int().min(0).default(600),
  /** Cores that a worker pod asks for. */
  DRYDOCK_WORKER_CPU: z.coerce.number().positive().optional(),
  /** GiB of a worker pod's scratch volume. */
  DRYDOCK_SCRATCH_GIB: z.coerce.number().positive().optional(),
  /** Workers at once. */
  DRYDOCK_WORKER_SLOTS: z.coerce.number().int().min(1).optional(),
  /** Compute threads of one worker. Fixed for a machine, because the thread count decides the last bits of sums. */
  DRYDOCK_WORKER_THREADS: z.coerce.number().int().min(1).optional(),
  /** Resident bytes after which a worker counts as out of memory. */
  DRYDOCK_MEMORY_LIMIT: z.coerce.number().int().positive().optional(),
  /** A worker that says nothing for so long is hung. It reports twice a second. */
  DRYDOCK_REPORT_DEADLINE_SECONDS: z.coerce.number().positive().default(300),
  /** A worker that trains and takes no step for so long is hung. */
  DRYDOCK_STEP_DEADLINE_SECONDS: z.coerce.number().positive().default(1800),
  /** A worker that was told to stop gets so long for its checkpoint. */
  DRYDOCK_STOP_DEADLINE_SECONDS: z.coerce.number().positive().default(300),
  /** `1`: the process ends when its standard input closes, so that it never outlives the one that started it. */
  DRYDOCK_PARENT_PIPE: z.enum(["0", "1"]).default("0"),
});

/** Settings of the controller process, read once. */
export interface ControllerConfig {
  readonly temporalAddress: string;
  readonly temporalNamespace: string;
  readonly apiUrl: string;
  readonly internalKey: string;
  readonly storageUrl: string;
  readonly modelsDirectory: string;
  /** Workers share no disk with the controller. */
  readonly workersAreElsewhere: boolean;
  readonly stateDirectory: string;
  readonly host: string;
  readonly port: number;
  /** Null: the address that is served. */
  readonly advertisedUrl: string | null;
  /** Null: workers are processes of this computer. */
  readonly kubernetes: KubernetesConfig | null;
  readonly slots: number;
  readonly threads: number;
  readonly memoryLimitBytes: number | null;
  readonly patience: Patience;
  readonly endsWithParent: boolean;
}

/** @throws InvalidError naming each variable that is missing or wrong */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): ControllerConfig {
  const filled = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ""));
  const parsed = Environment.safeParse(filled);
  if (!parsed.success)
    throw new InvalidError(
      "invalid_environment",
      `controller: ${parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ")}`,
    );
  const { data } = parsed;
  const cores = availableParallelism();
  const slots = data.DRYDOCK_WORKER_SLOTS ?? Math.min(2, cores);
  return {
    temporalAddress: data.TEMPORAL_ADDRESS,
    temporalNamespace: data.TEMPORAL_NAMESPACE,
    apiUrl: data.DRYDOCK_API_URL,
    internalKey: data.DRYDOCK_INTERNAL_KEY,
    storageUrl: data.STORAGE_URL,
    modelsDirectory: data.MODELS_DIRECTORY,
    workersAreElsewhere:
      data.DRYDOCK_MODELS_IN_STORAGE === undefined
        ? data.DRYDOCK_BACKEND !== "local"
        : data.DRYDOCK_MODELS_IN_STORAGE === "1",
    stateDirectory: data.DRYDOCK_CONTROLLER_STATE,
    host: data.CONTROLLER_HOST,
    port: data.CONTROLLER_PORT,
    advertisedUrl: data.DRYDOCK_CONTROLLER_URL ?? null,
    kubernetes: data.DRYDOCK_BACKEND === "local" ? null : kubernetesOf(data),
    slots,
    threads: data.DRYDOCK_WORKER_THREADS ?? Math.max(1, Math.floor(cores / slots)),
    memoryLimitBytes: data.DRYDOCK_MEMORY_LIMIT ?? null,
    patience: {
      reportMs: data.DRYDOCK_REPORT_DEADLINE_SECONDS * 1000,
      stepMs: data.DRYDOCK_STEP_DEADLINE_SECONDS * 1000,
      stopMs: data.DRYDOCK_STOP_DEADLINE_SECONDS * 1000,
    },
    endsWithParent: data.DRYDOCK_PARENT_PIPE === "1",
  };
}

function kubernetesOf(data: z.infer<typeof Environment>): KubernetesConfig {
  return {
    kubeconfig: data.KUBECONFIG ?? null,
    namespace: data.DRYDOCK_NAMESPACE,
    ownNamespace: data.DRYDOCK_SYSTEM_NAMESPACE,
    image: data.DRYDOCK_WORKER_IMAGE,
    imagePullPolicy: data.DRYDOCK_WORKER_IMAGE_PULL,
    imagePullSecret: data.DRYDOCK_WORKER_IMAGE_SECRET ?? null,
    kueue: data.DRYDOCK_KUEUE,
    nodeLossSeconds: data.DRYDOCK_NODE_LOSS_SECONDS,
    keepFinishedSeconds: data.DRYDOCK_KEEP_FINISHED_SECONDS,
    memoryPerRankBytes: data.DRYDOCK_MEMORY_LIMIT ?? null,
    cpuPerRank: data.DRYDOCK_WORKER_CPU ?? null,
    rackLabel: data.DRYDOCK_RACK_LABEL,
    queueQuotas: data.DRYDOCK_QUEUE_QUOTAS,
    scratchBytes: data.DRYDOCK_SCRATCH_GIB === undefined ? null : data.DRYDOCK_SCRATCH_GIB * 2 ** 30,
  };
}
