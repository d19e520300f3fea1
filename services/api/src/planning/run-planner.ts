import { checkMetrics, effectiveSystemPrompt } from "@drydock/data";
import { NotFoundError } from "@drydock/kit";
import {
  findAccelerator,
  plan,
  planDigest,
  type AcceleratorSupply,
  type DatasetStatistics,
  type Plan,
  type PlanNote,
  type RunSpec,
} from "@drydock/spec";
import type { DatasetStore, ReadyVersion } from "../store/dataset-store.ts";
import type { ModelDirectory } from "./model-directory.ts";
import type { WarmStarts } from "./warm-starts.ts";

export interface RunPlannerOptions {
  readonly datasets: DatasetStore;
  readonly models: ModelDirectory;
  readonly warmStarts: WarmStarts;
  /** What the cluster has. Undefined: any accelerator of the table. */
  readonly supply: readonly AcceleratorSupply[] | undefined;
  /** What its queue makes of a run of this plan: how long it would wait there now, and what speaks against it. */
  readonly queueOf: (plan: Plan, spec: RunSpec) => Promise<Pick<Plan, "queueWait" | "warnings" | "refusals">>;
}

/** A plan with what it was made from: the spec with the numbers of its data-set version and of its model filled in. */
export interface PlannedRun {
  readonly spec: RunSpec;
  readonly plan: Plan;
  readonly dataset: ReadyVersion;
}

const rememberedVersions = 16;

/** Plans runs on what is here: the models, the data sets and the accelerators of this installation. */
export class RunPlanner {
  readonly #options: RunPlannerOptions;
  /** Statistics of versions planned for lately: a ready version never changes, and reading them takes longer than the plan. */
  readonly #statistics = new Map<string, DatasetStatistics | null>();

  /** Ends when the plan before has been made and the event loop has gone round once. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: RunPlannerOptions) {
    this.#options = options;
  }

  /**
   * The plan of a run that may then be submitted. Refusals are in the plan.
   *
   * @throws InvalidError `unknown_metric`
   * @throws NotFoundError, ConflictError when the data set is not there or not ready, or a model's alias or files are not there, or the
   *   checkpoint to begin from
   * @throws UnprocessableError `warm_start_mismatch`
   */
  async planToRun(spec: RunSpec): Promise<PlannedRun> {
    const dataset = await this.#options.datasets.resolve(spec.dataset);
    const numbered = withVersion(await this.#resolved(spec), dataset);
    const planned = await this.#plan(numbered, dataset, this.#options.supply);
    return { spec: numbered, dataset, plan: await this.#queued(planned, numbered) };
  }

  /**
   * The plan as advice. A data set that does not exist yet is assumed, with a warning that says so; an accelerator that
   * is not here is planned for as if it were, with a warning too.
   *
   * @throws InvalidError `unknown_metric`
   * @throws ConflictError when the data set is there but not ready
   */
  async planAsAdvice(asked: RunSpec): Promise<Plan> {
    const spec = await this.#resolved(asked);
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
    if (warnings.length === 0) return await this.#queued(advice, spec);
    const content = { ...advice, warnings: [...warnings, ...advice.warnings] };
    return await this.#queued({ ...content, digest: planDigest(content) }, spec);
  }

  /** With the number of the model's version and the step of the checkpoint to begin from. */
  async #resolved(asked: RunSpec): Promise<RunSpec> {
    const spec = { ...asked, model: await this.#options.models.resolve(asked.model) };
    return asked.warmStart === undefined ? spec : { ...spec, warmStart: await this.#options.warmStarts.resolve(spec) };
  }

  async #plan(
    spec: RunSpec,
    dataset: ReadyVersion | null,
    supply: readonly AcceleratorSupply[] | undefined,
  ): Promise<Plan> {
    checkMetrics(spec.task, spec.evaluation.metrics ?? []);
    const model = await this.#options.models.find(spec.model);
    const statistics = dataset === null ? null : await this.#statisticsOf(dataset.versionId);
    const systemPrompt = effectiveSystemPrompt(spec, model?.boxConvention);
    return await this.#inTurn(() => plan({ spec, model, statistics, supply, systemPrompt }));
  }

  /** What the queue says is not part of the digest: it changes by the minute without changing what the run does. */
  async #queued(planned: Plan, spec: RunSpec): Promise<Plan> {
    const { queueWait, warnings, refusals } = await this.#options.queueOf(planned, spec);
    return {
      ...planned,
      queueWait,
      warnings: [...planned.warnings, ...warnings],
      refusals: [...planned.refusals, ...refusals],
    };
  }

  /**
   * One plan per round of the event loop. A plan takes milliseconds of the processor, and Node accepts one connection a
   * round: a hundred plans in one round would keep new clients waiting for seconds.
   */
  async #inTurn<Result>(compute: () => Result): Promise<Result> {
    const turn = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await turn;
    try {
      return compute();
    } finally {
      setImmediate(resolve);
    }
  }

  async #statisticsOf(versionId: string): Promise<DatasetStatistics | null> {
    const known = this.#statistics.get(versionId);
    if (known !== undefined) return known;
    const statistics = await this.#options.datasets.statisticsOf(versionId);
    if (this.#statistics.size >= rememberedVersions) this.#statistics.delete(this.#statistics.keys().next().value!);
    this.#statistics.set(versionId, statistics);
    return statistics;
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
