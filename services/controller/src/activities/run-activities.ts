import type { ObjectStorage } from "@drydock/kit";
import { layoutsOf, type Layout } from "@drydock/spec";
import type { LayoutFacts, RunActivities } from "@drydock/workflows";
import { codeVersion } from "../code-version.ts";
import type { InternalApi } from "../internal-api.ts";
import { failForGood, whileWatching } from "./activity-signals.ts";
import { registrationOf } from "./model-registration.ts";
import { runAttempt, type RunAttemptDependencies } from "./run-attempt.ts";

export interface RunDependencies extends RunAttemptDependencies {
  readonly api: InternalApi;
  readonly storage: ObjectStorage;
}

function factsOf({
  microBatchSize,
  accumulationSteps,
  recomputeActivations,
  dataParallel,
  pipelineStages,
}: Layout): LayoutFacts {
  return { microBatchSize, accumulationSteps, recomputeActivations, dataParallel, pipelineStages };
}

export function createRunActivities(dependencies: RunDependencies): RunActivities {
  const { api, storage } = dependencies;
  return {
    /** Reads only. */
    loadRun: async ({ runId }) =>
      await failForGood(async () => {
        const { state, spec, plan } = await api.run(runId);
        return {
          state,
          retries: spec.retries,
          deadlineSeconds: spec.deadlineSeconds,
          layouts: layoutsOf(plan).map(factsOf),
          isRefused: plan.refusals.length > 0 || plan.layout === null,
          refusal:
            plan.refusals.map(({ message }) => message).join(" ") ||
            "the plan found no layout that fits; ask for a plan to see why",
        };
      }),

    /** Safe to retry: the api keeps one event per key. */
    transitionRun: async ({ runId, key, to, reason, message, attempt }) =>
      await failForGood(async () => await api.transition(runId, { key, to, reason, message, attempt })),

    /** Safe to retry: event and transition have keys of the attempt. */
    requeue: async ({ runId, reason, message, attempt }) =>
      await failForGood(async () => {
        const time = new Date().toISOString();
        const key = `remedy-${attempt ?? "none"}`;
        await api.report(runId, {
          events: [
            {
              key,
              time,
              actor: "controller",
              type: "remedy.applied",
              from: null,
              to: null,
              reason,
              message,
              attempt,
              step: null,
            },
          ],
        });
        await api.transition(runId, { key: `requeued-${attempt ?? "none"}`, to: "queued", reason, message, attempt });
      }),

    /**
     * Safe to retry: an attempt whose worker is still there is adopted; one whose worker is gone has ended, and the
     * answer says how.
     */
    runAttempt: async (input) => await whileWatching(async (signals) => await runAttempt(dependencies, input, signals)),

    /** Safe to retry: the model is known by name and version, the event and the last transition by their keys. */
    publishRun: async ({ runId, epoch, modelKey }) =>
      await failForGood(async () => {
        const registration = await registrationOf(storage, modelKey, codeVersion());
        await api.registerModel(registration);
        const model = `${registration.name}@${registration.version}`;
        const time = new Date().toISOString();
        await api.report(runId, {
          events: [
            {
              key: "published",
              time,
              actor: "controller",
              type: "model.published",
              from: null,
              to: null,
              reason: "completed",
              message: `model ${model} is ready`,
              attempt: epoch,
              step: registration.lineage.step,
            },
          ],
        });
        await api.transition(runId, {
          key: "succeeded",
          to: "succeeded",
          reason: "completed",
          message: `done: model ${model}`,
          attempt: epoch,
        });
      }),
  };
}
