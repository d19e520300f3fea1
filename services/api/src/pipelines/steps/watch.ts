import { formatSeconds, runOf, type PipelineStep } from "@drydock/spec";
import { rollBack } from "../../registry/roll-back.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";
import { liveScore, shownScore } from "../live-score.ts";
import { candidateOf } from "./promote.ts";

/**
 * Looks at what the promoted version answers in use. When its score falls below the limit the version before is put into production
 * again, and the run ends with that.
 */
export async function watch(
  { database, evaluations, observations }: Pick<Services, "database" | "evaluations" | "observations">,
  { id, spec, results }: PipelineRunRow,
  step: Extract<PipelineStep, { type: "watch" }>,
  now: Date = new Date(),
): Promise<StepOutcome> {
  const { metric, minimumSamples, windowSeconds } = step;
  const model = candidateOf(results.candidate);
  const since = new Date(results.startedAt["watch"] ?? now);
  const observed = await observations.since(model, since);
  const { samples, score } = liveScore(observed, { task: runOf(spec).task, metric, minimumSamples });
  const evaluated = results.evaluations === undefined ? null : await evaluations.get(results.evaluations.candidate);
  const limit = step.minimum ?? (evaluated?.scores?.[metric] ?? 0) - (step.maximumDrop ?? 0);
  if (score !== null && score < limit) {
    const why = `live ${metric} of ${results.candidate} fell to ${shownScore(score)} on ${samples} answers, below ${shownScore(limit)}`;
    const order = { name: model.name, from: model.version, actor: id, key: `${id}/rollback`, message: why };
    const { version } = await database.transaction(async (tx) => await rollBack(tx, order));
    return { kind: "end", state: "rolled-back", message: `${why}: ${model.name}@${version} is in production again` };
  }
  if (now.getTime() - since.getTime() < windowSeconds * 1000) return { kind: "wait" };
  const seen =
    samples < minimumSamples
      ? `only ${samples} answers with truth came, too few to judge`
      : `${samples} answers with truth`;
  return { kind: "done", message: `no drop in ${formatSeconds(windowSeconds)}: ${seen}` };
}
