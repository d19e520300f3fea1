import { checkGateRules, checkMetric, parseGateRule } from "@drydock/data";
import { InvalidError } from "@drydock/kit";
import { checkCycle, checkPipeline, type PipelineSpec } from "@drydock/spec";
import type { Services } from "../services.ts";
import { PipelineStore } from "../store/pipeline-store.ts";
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

/** Refuses one that would start itself by way of others; the transaction keeps two from closing a circle at once. */
export async function checkCircle(tx: Database, spec: PipelineSpec): Promise<void> {
  const others = (await new PipelineStore(tx).all()).map((row) => row.spec).filter(({ name }) => name !== spec.name);
  checkCycle(spec, others);
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
