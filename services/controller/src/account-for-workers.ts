import { NotFoundError, messageOf } from "@drydock/kit";
import { terminalRunStates } from "@drydock/spec";
import type { Gang } from "./backend/cluster-backend.ts";
import type { ControllerParts } from "./close-controller.ts";
import type { InternalApi } from "./internal-api.ts";

/**
 * Takes stock of the workers that an earlier controller left running: each has its slot, so that no more run than there
 * are slots for; one whose run is over or unknown is ended. The others are adopted by the activity of their run.
 */
export async function accountForWorkers(
  { backend, capacity, logger }: Pick<ControllerParts, "backend" | "capacity" | "logger">,
  api: Pick<InternalApi, "run">,
): Promise<void> {
  for (const gang of await backend.list()) {
    capacity.occupyWhile(gang);
    endWhenUnwanted(gang, api).catch((error: unknown) =>
      logger.warn({ gang: gang.name, error: messageOf(error) }, "cannot tell whether a worker is still wanted"),
    );
  }
}

async function endWhenUnwanted(gang: Gang, api: Pick<InternalApi, "run">): Promise<void> {
  const runId = /^(run_.+)-a\d+$/.exec(gang.name)?.[1];
  if (runId === undefined) return;
  try {
    const { state } = await api.run(runId);
    if (terminalRunStates.includes(state)) gang.kill();
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    gang.kill();
  }
}
