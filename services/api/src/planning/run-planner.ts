import { effectiveSystemPrompt } from "@drydock/data";
import { NotFoundError } from "@drydock/kit";
import {
  findAccelerator,
  plan,
  planDigest,
  type AcceleratorSupply,
  type Plan,
  type PlanNote,
  type RunSpec,
} from "@drydock/spec";
import type { DatasetStore, ReadyVersion } from "../store/dataset-store.ts";
import type { ModelDirectory } from "./model-directory.ts";

export interface RunPlannerOptions {
  readonly datasets: DatasetStore;
  readonly models: ModelDirectory;
  /** What the cluster has. Undefined: any accelerator of the table. */
  readonly supply: readonly AcceleratorSupply[] | undefined;
}

/** A plan with what it was made from: the spec with the number of its data-set version filled in. */
export interface PlannedRun {
  readonly spec: RunSpec;
  readonly plan: Plan;
  readonly dataset: ReadyVersion;
}

/** Plans runs on what is here: the models, the data sets and the accelerators of this installation. */
export class RunPlanner {
  readonly #options: RunPlannerOptions;

  constructor(options: RunPlannerOptions) {
    this.#options = options;
  }

  /**
   * The plan of a run that may then be submitted. Refusals are in the plan.
   *
   * @throws NotFoundError, ConflictError when the data set is not there or not ready
   */
  async planToRun(spec: RunSpec): Promise<PlannedRun> {
    const dataset = await this.#options.datasets.resolve(spec.dataset);
    const numbered = withVersion(spec, dataset);
    return { spec: numbered, dataset, plan: await this.#plan(numbered, dataset, this.#options.supply) };
  }

  /**
   * The plan as advice. A data set that does not exist yet is assumed, with a warning that says so; an accelerator that
   * is not here is planned for as if it were, with a warning too.
   *
   * @throws ConflictError when the data set is there but not ready
   */
  async planAsAdvice(spec: RunSpec): Promise<Plan> {
    const dataset = await this.#resolveIfThere(spec.dataset);
    const wanted = spec.resources === "auto" ? undefined : spec.resources.accelerator;
    const { supply } = this.#options;
    const known = wanted === undefined ? undefined : findAccelerator(wanted);
    const isElsewhere =
      known !== undefined && supply !== undefined && !supply.some((entry) => entry.accelerator.name === known.name);
    const advice = await this.#plan(
      dataset === null ? spec : withVersion(spec, dataset),
      dataset,
      isElsewhere ? undefined : supply,
    );
    const warnings: PlanNote[] = [];
    if (dataset === null)
      warnings.push({
        code: "dataset_not_there",
        path: "dataset",
        message: `There is no data set "${spec.dataset}" here yet. Make it before you submit the run, or check its name.`,
      });
    if (isElsewhere)
      warnings.push({
        code: "accelerator_not_available",
        path: "resources.accelerator",
        message: `There is no ${known.name} here: this plan shows what the run would need there, but it cannot be submitted here.`,
      });
    if (warnings.length === 0) return advice;
    const content = { ...advice, warnings: [...warnings, ...advice.warnings] };
    return { ...content, digest: planDigest(content) };
  }

  async #plan(
    spec: RunSpec,
    dataset: ReadyVersion | null,
    supply: readonly AcceleratorSupply[] | undefined,
  ): Promise<Plan> {
    const model = await this.#options.models.find(spec.model);
    return plan({
      spec,
      model,
      statistics: dataset?.statistics ?? null,
      supply,
      systemPrompt: effectiveSystemPrompt(spec, model?.boxConvention),
    });
  }

  async #resolveIfThere(reference: string): Promise<ReadyVersion | null> {
    try {
      return await this.#options.datasets.resolve(reference);
    } catch (error) {
      if (error instanceof NotFoundError) return null;
      throw error;
    }
  }
}

function withVersion(spec: RunSpec, dataset: ReadyVersion): RunSpec {
  return { ...spec, dataset: `${spec.dataset.split("@")[0]}@${dataset.version}` };
}
