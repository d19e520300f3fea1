import { isDeepStrictEqual } from "node:util";
import { checkGateRules, checkMetric, parseGateRule } from "@drydock/data";
import { InvalidError } from "@drydock/kit";
import { checkCycle, checkPipeline, type PipelineSpec, type PipelineTrigger } from "@drydock/spec";
import type { Services } from "../services.ts";
import { PipelineStore, type PipelineRow } from "../store/pipeline-store.ts";
import type { Database } from "../store/database.ts";

/**
 * Refuses a pipeline that could not run: its steps, schedules, rules, data set and what starts it.
 *
 * @throws InvalidError with the path and what to change
 * @throws NotFoundError `dataset_not_found`
 */
export async function checkNewPipeline({ datasets }: Pick<Services, "datasets">, spec: PipelineSpec): Promise<void> {
  const { task } = checkPipeline(spec);
  for (const [index, step] of spec.steps.entries())
    if (step.type === "gate") checkRules(step.rules, task, `steps.${index}.rules`);
    else if (step.type === "watch") checkMetric(task, step.metric, `steps.${index}.metric`);
    else if (step.type === "evaluate" && step.dataset !== undefined) await datasets.resolve(step.dataset);
  for (const [index, trigger] of spec.triggers.entries())
    if (trigger.type === "metric") checkMetric(task, trigger.metric, `triggers.${index}.metric`);
  await datasets.get(spec.dataset);
}

/** Refuses one that would start itself by way of others. The locks keep two from closing a circle at once. */
export async function checkCircle(tx: Database, spec: PipelineSpec): Promise<void> {
  if (!spec.triggers.some(({ type }) => type === "pipeline")) return;
  const others = (await new PipelineStore(tx).lockAll())
    .map((row) => row.spec)
    .filter(({ name }) => name !== spec.name);
  checkCycle(spec, others);
}

/** Writes another spec. Schedules that are new begin now: what they would have started before is not caught up. */
export async function changeSpec(tx: Database, row: PipelineRow, spec: PipelineSpec, now: Date): Promise<void> {
  const isSameSchedule = isDeepStrictEqual(schedulesOf(row.spec), schedulesOf(spec));
  await new PipelineStore(tx).change(row, isSameSchedule ? { spec } : { spec, scheduledUntil: now });
}

function schedulesOf({ triggers }: PipelineSpec): PipelineTrigger[] {
  return triggers.filter(({ type }) => type === "cron");
}

function checkRules(texts: readonly string[], task: Parameters<typeof checkGateRules>[1]["task"], path: string): void {
  try {
    checkGateRules(texts.map(parseGateRule), { task, slices: null });
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    throw new InvalidError(error.code, error.message, {
      details: [{ path, code: error.code, message: error.message }],
      cause: error,
    });
  }
}
