import { setTimeout as delay } from "node:timers/promises";
import { NotFoundError, isDrydockError, messageOf } from "@drydock/kit";
import type { PipelineAdvance } from "@drydock/spec";
import type { PipelineActivities } from "@drydock/workflows";
import { promoteVerified, type PromotionDependencies } from "../models/promote-model.ts";
import type { PipelineApi } from "../pipeline-api.ts";
import { failForGood, whileWatching } from "./activity-signals.ts";

const lookMs = 1000;

export interface PipelineDependencies extends PromotionDependencies {
  readonly pipelines: PipelineApi;
}

export function createPipelineActivities(dependencies: PipelineDependencies): PipelineActivities {
  const { pipelines } = dependencies;
  return {
    /** Safe to retry: each step's work is written once, in the transaction that notes it. */
    runPipeline: async ({ pipelineRunId }) =>
      await failForGood(
        async () =>
          await whileWatching(
            async ({ stop, abandon }) => await carryOn(dependencies, pipelineRunId, AbortSignal.any([stop, abandon])),
          ),
      ),

    /** Safe to retry: a run that is over stays as it is. One that was deleted since needs no end. */
    failPipeline: async ({ pipelineRunId, message }) => {
      try {
        await pipelines.failed(pipelineRunId, message);
      } catch (error) {
        if (!(error instanceof NotFoundError)) throw error;
      }
    },
  };
}

async function carryOn(dependencies: PipelineDependencies, id: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted();
    const next = await dependencies.pipelines.advance(id);
    if (next.kind === "over") return;
    if (next.kind === "promote") await promote(dependencies, id, next);
    if (next.kind === "wait") await delay(lookMs, undefined, { signal });
  }
}

/**
 * What may have happened while files were read: another version went into production, or the run was cancelled. The next look sees what is
 * to be done then.
 */
const changedMeanwhile: readonly string[] = ["production_changed", "pipeline_run_moved_on"];

/** A candidate whose files are damaged ends the run with their names. */
async function promote(
  { pipelines, ...promotion }: PipelineDependencies,
  id: string,
  { name, version, key, message, expected }: Extract<PipelineAdvance, { kind: "promote" }>,
): Promise<void> {
  try {
    await promoteVerified(promotion, { name, version, key, actor: id, message, expected, pipelineRun: id });
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    if (error.details.some(({ code }) => changedMeanwhile.includes(code))) return;
    await pipelines.failed(id, messageOf(error));
  }
}
