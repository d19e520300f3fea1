import { InvalidError } from "@drydock/kit";
import { z } from "zod";

const RankEnvironment = z.object({
  DRYDOCK_RUN_ID: z.string().min(1),
  DRYDOCK_EPOCH: z.coerce.number().int().positive(),
  DRYDOCK_RANK: z.coerce.number().int().nonnegative(),
  DRYDOCK_WORKER_TOKEN: z.string().min(1),
  DRYDOCK_CONTROLLER_URL: z.url(),
  STORAGE_URL: z.string().min(1),
  DRYDOCK_SCRATCH: z.string().min(1),
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
  readonly token: string;
  readonly controllerUrl: string;
  readonly storageUrl: string;
  readonly scratchDirectory: string;
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
  return {
    runId: data.DRYDOCK_RUN_ID,
    epoch: data.DRYDOCK_EPOCH,
    rank: data.DRYDOCK_RANK,
    token: data.DRYDOCK_WORKER_TOKEN,
    controllerUrl: data.DRYDOCK_CONTROLLER_URL,
    storageUrl: data.STORAGE_URL,
    scratchDirectory: data.DRYDOCK_SCRATCH,
    storageBudgetMs: data.DRYDOCK_STORAGE_BUDGET_SECONDS * 1000,
    controllerBudgetMs: data.DRYDOCK_CONTROLLER_BUDGET_SECONDS * 1000,
  };
}
