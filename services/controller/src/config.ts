import { availableParallelism } from "node:os";
import { InvalidError } from "@drydock/kit";
import { z } from "zod";

const Environment = z.object({
  TEMPORAL_ADDRESS: z.string().min(1),
  TEMPORAL_NAMESPACE: z.string().min(1).default("default"),
  DRYDOCK_API_URL: z.url(),
  DRYDOCK_INTERNAL_KEY: z.string().min(1),
  STORAGE_URL: z.string().min(1),
  /** Folder with local base models, one folder each. */
  MODELS_DIRECTORY: z.string().min(1),
  /** Where the controller keeps what it needs to find its workers again, their scratch space and logs. */
  DRYDOCK_CONTROLLER_STATE: z.string().min(1),
  /** Port of the worker protocol; fixed, so that workers find a controller that was started again. */
  CONTROLLER_PORT: z.coerce.number().int().min(0).max(65535).default(0),
  /** Workers at once. */
  DRYDOCK_WORKER_SLOTS: z.coerce.number().int().min(1).optional(),
  /** Compute threads of one worker. Fixed for a machine, because the thread count decides the last bits of sums. */
  DRYDOCK_WORKER_THREADS: z.coerce.number().int().min(1).optional(),
  /** Resident bytes after which a worker counts as out of memory. */
  DRYDOCK_MEMORY_LIMIT: z.coerce.number().int().positive().optional(),
  /** A worker that says nothing for so long is hung. */
  DRYDOCK_REPORT_DEADLINE_SECONDS: z.coerce.number().positive().default(900),
});

/** Settings of the controller process, read once. */
export interface ControllerConfig {
  readonly temporalAddress: string;
  readonly temporalNamespace: string;
  readonly apiUrl: string;
  readonly internalKey: string;
  readonly storageUrl: string;
  readonly modelsDirectory: string;
  readonly stateDirectory: string;
  readonly port: number;
  readonly slots: number;
  readonly threads: number;
  readonly memoryLimitBytes: number | null;
  readonly reportDeadlineMs: number;
}

/** @throws InvalidError naming each variable that is missing or wrong */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): ControllerConfig {
  const parsed = Environment.safeParse(environment);
  if (!parsed.success) throw new InvalidError("invalid_environment", `controller: ${parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ")}`);
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
    stateDirectory: data.DRYDOCK_CONTROLLER_STATE,
    port: data.CONTROLLER_PORT,
    slots,
    threads: data.DRYDOCK_WORKER_THREADS ?? Math.max(1, Math.floor(cores / slots)),
    memoryLimitBytes: data.DRYDOCK_MEMORY_LIMIT ?? null,
    reportDeadlineMs: data.DRYDOCK_REPORT_DEADLINE_SECONDS * 1000,
  };
}
