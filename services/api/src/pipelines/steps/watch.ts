import { formatSeconds, runOf, type PipelineStep } from "@drydock/spec";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";
import { shownScore } from "../live-score.ts";
import { productionOf } from "./evaluate.ts";
import { candidateOf } from "./promote.ts";

/**
 * Looks at what the promoted version answers in use. When its score falls below the limit the version before is put into production
 * again, and the run ends with that.
 */
export async function watch(
  { models, evaluations, liveScores }: Pick<Services, "models" | "evaluations" | "liveScores">,
  { id, spec, results }: PipelineRunRow,
  step: Extract<PipelineStep, { type: "watch" }>,
  now: Date = new Date(),
): Promise<StepOutcome> {
  const { metric, minimumSamples, windowSeconds } = step;
  const model = candidateOf(results.candidate);
  const since = new Date(results.startedAt["watch"] ?? now);
  const present = await productionOf({ models }, model.name);
  if (present !== results.candidate)
    return {
      kind: "done",
      message: `${results.candidate} is no longer in production, ${present ?? "nothing"} is: there is nothing left to watch`,
    };
  const { samples, score } = await liveScores.since(model, since, { task: runOf(spec).task, metric, minimumSamples });
  const evaluated = results.evaluations === undefined ? null : await evaluations.get(results.evaluations.candidate);
  const limit = step.minimum ?? (evaluated?.scores?.[metric] ?? 0) - (step.maximumDrop ?? 0);
  if (score !== null && score < limit) {
    const why = `live ${metric} of ${results.candidate} fell to ${shownScore(score)} on ${samples} answers, below ${shownScore(limit)}`;
    const rollback = { name: model.name, from: model.version, actor: id, key: `${id}/rollback`, message: why };
    return { kind: "roll-back", rollback };
  }
  if (now.getTime() - since.getTime() < windowSeconds * 1000) return { kind: "wait" };
  const seen =
    samples < minimumSamples
      ? `only ${samples} answers with truth came, too few to judge`
      : `${samples} answers with truth`;
  return { kind: "done", message: `no drop in ${formatSeconds(windowSeconds)}: ${seen}` };
}
