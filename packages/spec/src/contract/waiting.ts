import { z } from "zod";
import { Timestamp } from "./common.ts";
import { Priority } from "./run-spec.ts";

/** When a run that waits is expected to start. */
export const StartEstimate = z
  .object({
    /** Null when it cannot be said; `basis` then says why. */
    startsAt: z.object({ earliest: Timestamp, expected: Timestamp, latest: Timestamp }).nullable(),
    basis: z.string(),
  })
  .meta({ id: "StartEstimate" });
export type StartEstimate = z.infer<typeof StartEstimate>;

/** Why a run waits, for whom, and for how long. */
export const RunWaiting = z
  .object({
    since: Timestamp,
    sentence: z.string(),
    /** Runs of its queue that are started before it, the next one first; at most 100 of them. */
    ahead: z.array(z.object({ runId: z.string(), name: z.string(), priority: Priority })),
    aheadTotal: z.int().nonnegative(),
    estimate: StartEstimate,
  })
  .meta({ id: "RunWaiting" });
export type RunWaiting = z.infer<typeof RunWaiting>;
