import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@drydock/kit";
import type { AttemptRegistry } from "./attempts/attempt-registry.ts";
import type { Admission } from "./attempts/capacity.ts";
import type { ClusterBackend } from "./backend/cluster-backend.ts";

export interface ControllerParts {
  readonly capacity: Admission;
  readonly registry: AttemptRegistry;
  readonly backend: ClusterBackend;
  readonly logger: Logger;
}

/** A worker gets so long for its checkpoint when this computer's controller is closed. */
const checkpointGraceMs = 45_000;

/**
 * Closes in order: nobody new is admitted, every worker stops after a checkpoint and is still listened to, and what does
 * not end in time is ended. The runs go on from their checkpoints at the next start.
 */
export async function stopWorkers(
  { capacity, registry, backend, logger }: ControllerParts,
  graceMs: number = checkpointGraceMs,
): Promise<void> {
  capacity.close();
  registry.stopAll();
  const gangs = await backend.list();
  logger.info({ attempts: gangs.length }, "closing: workers stop after a checkpoint");
  for (const gang of gangs) gang.stop();
  const grace = new AbortController();
  const allEnded = Promise.all(gangs.map(async ({ ended }) => await ended)).then(() => grace.abort());
  await delay(graceMs, undefined, { signal: grace.signal }).catch((error: unknown) => {
    if (!grace.signal.aborted) throw error;
  });
  if (!grace.signal.aborted) {
    for (const gang of await backend.list()) gang.kill();
  }
  await allEnded;
}
