import { join } from "node:path";
import { InvalidError } from "@drydock/kit";
import { z } from "zod";

const RankEnvironment = z.object({
  DRYDOCK_RUN_ID: z.string().min(1),
  DRYDOCK_EPOCH: z.coerce.number().int().positive(),
  DRYDOCK_RANK: z.coerce.number().int().nonnegative(),
  DRYDOCK_WORLD_SIZE: z.coerce.number().int().positive().default(1),
  /** An address of this machine that the other ranks reach; on a cluster the pod's. */
  DRYDOCK_LISTEN_HOST: z.string().min(1).default("127.0.0.1"),
  /** What carries sums over ranks: TCP, or NCCL on the rank's first GPU. */
  DRYDOCK_COLLECTIVE: z.enum(["tcp", "nccl"]).default("tcp"),
  DRYDOCK_WORKER_TOKEN: z.string().min(1),
  DRYDOCK_CONTROLLER_URL: z.url(),
  STORAGE_URL: z.string().min(1),
  DRYDOCK_SCRATCH: z.string().min(1),
  /** Folder that the workers of a node share, for models and data from object storage; default: below the scratch folder. */
  DRYDOCK_CACHE: z.string().min(1).optional(),
  /** What the cache may hold, files in use included; default: four fifths of its disk. */
  DRYDOCK_CACHE_GIB: z.coerce.number().positive().optional(),
  /** Seconds that storage or a full disk is waited for before the rank gives up with exit code 75. */
  DRYDOCK_STORAGE_BUDGET_SECONDS: z.coerce.number().nonnegative().default(900),
  /** Seconds that a controller that does not answer is waited for: before the first step, and for the last report. */
  DRYDOCK_CONTROLLER_BUDGET_SECONDS: z.coerce.number().nonnegative().default(3600),
});

/** What a rank gets from the back end that starts it. */
export interface RankSettings {
  readonly runId: string;
  readonly epoch: number;
  readonly rank: number;
  /** Ranks of the attempt. */
  readonly worldSize: number;
  readonly listenHost: string;
  readonly collective: "tcp" | "nccl";
  readonly token: string;
  readonly controllerUrl: string;
  readonly storageUrl: string;
  readonly scratchDirectory: string;
  readonly cache: { readonly directory: string; readonly limitBytes: number | null };
  readonly storageBudgetMs: number;
  readonly controllerBudgetMs: number;
}

/** @throws InvalidError `invalid_environment` naming each variable that is missing or wrong */
export function rankSettingsOf(environment: Readonly<Record<string, string | undefined>>): RankSettings {
  const parsed = RankEnvironment.safeParse(environment);
  if (!parsed.success) {
    const names = parsed.error.issues.map(({ path, message }) => `${path.join(".")} (${message})`).join(", ");
    throw new InvalidError(
      "invalid_environment",
      `rank is started by the controller, with these environment variables missing or wrong: ${names}`,
    );
  }
  const { data } = parsed;
  if (data.DRYDOCK_RANK >= data.DRYDOCK_WORLD_SIZE) {
    throw new InvalidError(
      "invalid_environment",
      `DRYDOCK_RANK is ${data.DRYDOCK_RANK}, but there are ${data.DRYDOCK_WORLD_SIZE} ranks, counted from 0: one of DRYDOCK_RANK and DRYDOCK_WORLD_SIZE is wrong`,
    );
  }
  return {
    runId: data.DRYDOCK_RUN_ID,
    epoch: data.DRYDOCK_EPOCH,
    rank: data.DRYDOCK_RANK,
    worldSize: data.DRYDOCK_WORLD_SIZE,
    listenHost: data.DRYDOCK_LISTEN_HOST,
    collective: data.DRYDOCK_COLLECTIVE,
    token: data.DRYDOCK_WORKER_TOKEN,
    controllerUrl: data.DRYDOCK_CONTROLLER_URL,
    storageUrl: data.STORAGE_URL,
    scratchDirectory: data.DRYDOCK_SCRATCH,
    cache: {
      directory: data.DRYDOCK_CACHE ?? join(data.DRYDOCK_SCRATCH, "cache"),
      limitBytes: data.DRYDOCK_CACHE_GIB === undefined ? null : data.DRYDOCK_CACHE_GIB * 2 ** 30,
    },
    storageBudgetMs: data.DRYDOCK_STORAGE_BUDGET_SECONDS * 1000,
    controllerBudgetMs: data.DRYDOCK_CONTROLLER_BUDGET_SECONDS * 1000,
  };
}
