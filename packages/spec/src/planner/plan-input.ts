import type { AcceleratorSupply } from "../accelerators/accelerator.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import type { DatasetStatistics } from "../contract/dataset.ts";
import type { Plan } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";

/** Everything a plan depends on. The same input gives the same plan and digest. */
export interface PlanInput {
  readonly spec: RunSpec;
  /** Facts of the model when `spec.model` is not a catalogue name: from its `config.json` by `modelFactsFromConfig`. */
  readonly model?: ModelFacts | undefined;
  /** Null or left out when there is no data set yet: the plan then says what it assumes. */
  readonly statistics?: DatasetStatistics | null | undefined;
  /** What the cluster has; default: any GPU of the table, eight nodes of it. */
  readonly supply?: readonly AcceleratorSupply[] | undefined;
  /** The system prompt that will be used, defaults filled in; else the spec's, else an assumed length. */
  readonly systemPrompt?: string | undefined;
  readonly queueWait?: Plan["queueWait"] | undefined;
}

/** Rows assumed when there is no data set yet. */
export const assumedRows = 1000;
