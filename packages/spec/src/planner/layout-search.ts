import { plannedTargets } from "./lora-targets.ts";
import { shareOfMachine, type Accelerator, type AcceleratorSupply } from "../accelerators/accelerator.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import type { Layout, Plan } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import type { TokenProfile } from "../tokens/token-monitor.ts";
import { estimateDuration } from "./duration.ts";
import { estimateMemory, type MemoryEstimate } from "./memory.ts";
import { countedAs, drydockCpuRecipe, drydockGpuRecipe } from "./recipe.ts";

/** Share of a device's memory that a plan may fill. The rest covers estimates that are 10 % too low, the band of the tests. */
const usableShare = 0.9;

/** Tokens of a micro-batch beyond which a larger one no longer trains faster. */
const enoughTokens = 8192;

export interface Workload {
  readonly spec: RunSpec;
  readonly model: ModelFacts;
  readonly profile: TokenProfile;
  readonly steps: number;
}

export interface Candidate {
  readonly accelerator: Accelerator;
  readonly layout: Layout;
  readonly memory: MemoryEstimate;
  readonly availableBytes: number;
  readonly time: NonNullable<Plan["timeSeconds"]>;
}

/** The layouts that fit, one an accelerator, and the one nearest to fitting when none does. */
export interface SearchResult {
  readonly fitting: readonly Candidate[];
  readonly closest: Candidate | null;
}

/**
 * For each accelerator the fewest GPUs, then the fewest pipeline stages, on which the run fits and meets its deadline;
 * where no number of GPUs meets it, the fastest that fits.
 */
export function searchLayouts(workload: Workload, supply: readonly AcceleratorSupply[]): SearchResult {
  const { resources } = workload.spec;
  const named = resources === "auto" ? undefined : resources.accelerator?.toLowerCase();
  const results = supply
    .filter((entry) => named === undefined || entry.accelerator.name === named)
    .map((entry) => searchOn(workload, entry));
  return {
    fitting: results.flatMap((result) => result.chosen ?? []),
    closest: results.reduce<Candidate | null>((best, result) => nearer(best, result.closest), null),
  };
}

function searchOn(
  workload: Workload,
  entry: AcceleratorSupply,
): { chosen: Candidate | null; closest: Candidate | null } {
  const { resources, deadlineSeconds } = workload.spec;
  const wanted = resources === "auto" ? {} : resources;
  let chosen: Candidate | null = null;
  let closest: Candidate | null = null;
  const unasked = entry.isOneMachine ? [1] : powersOfTwo(entry.maxDevices);
  for (const gpus of wanted.gpus === undefined ? unasked : [wanted.gpus]) {
    const accelerator = entry.isOneMachine ? shareOfMachine(entry.accelerator, gpus) : entry.accelerator;
    for (const candidate of candidatesOn(workload, accelerator, gpus, wanted.pipelineStages)) {
      closest = nearer(closest, candidate);
      if (!fits(candidate)) continue;
      if (chosen === null || candidate.time.expected < chosen.time.expected) chosen = candidate;
      break;
    }
    if (chosen !== null && chosen.time.expected <= deadlineSeconds) break;
  }
  return { chosen, closest };
}

function nearer(a: Candidate | null, b: Candidate | null): Candidate | null {
  if (a === null || b === null) return a ?? b;
  return excess(b) < excess(a) ? b : a;
}

/** On one number of GPUs: the best micro-batch for each number of pipeline stages, fewest stages first. */
function* candidatesOn(
  workload: Workload,
  accelerator: Accelerator,
  gpus: number,
  stagesWanted: number | undefined,
): Generator<Candidate> {
  const layers = workload.model.architecture.text.layers;
  const { globalBatchSize } = workload.spec.training;
  for (const stages of stagesWanted === undefined ? powersOfTwo(gpus) : [stagesWanted]) {
    const dataParallel = gpus / stages;
    if (stages > layers || !Number.isInteger(dataParallel) || globalBatchSize % dataParallel !== 0) continue;
    const candidate = bestMicroBatch(workload, accelerator, dataParallel, stages);
    if (candidate !== null) yield candidate;
  }
}

/** The largest useful micro-batch that fits; when none does, the smallest, so that the shortfall can be told. */
function bestMicroBatch(
  workload: Workload,
  accelerator: Accelerator,
  dataParallel: number,
  stages: number,
): Candidate | null {
  let last: Candidate | null = null;
  for (const microBatchSize of microBatches(workload, dataParallel))
    // The CPU keeps activations while they fit, since recomputing costs a third of its time; GPUs always recompute.
    for (const recomputeActivations of accelerator.kind === "cpu" ? [false, true] : [true]) {
      last = evaluateLayout(
        workload,
        accelerator,
        makeLayout(workload.spec, { dataParallel, stages, microBatchSize, recomputeActivations }),
      );
      if (fits(last)) return last;
    }
  return last;
}

function microBatches({ spec, profile }: Workload, dataParallel: number): number[] {
  const perRank = spec.training.globalBatchSize / dataParallel;
  const { microBatchSize } = spec.training;
  if (microBatchSize !== undefined) return perRank % microBatchSize === 0 ? [microBatchSize] : [];
  const useful = Math.max(1, Math.floor(enoughTokens / Math.max(1, profile.mean.total)));
  const divisors = Array.from({ length: Math.min(perRank, useful) }, (_, index) => index + 1).filter(
    (size) => perRank % size === 0,
  );
  return divisors.reverse();
}

interface LayoutChoice {
  readonly dataParallel: number;
  readonly stages: number;
  readonly microBatchSize: number;
  readonly recomputeActivations: boolean;
}

/** A layout of one GPU a pod: a rank is a pod, so that one rank can be replaced alone. */
function makeLayout(spec: RunSpec, choice: LayoutChoice): Layout {
  const gpus = choice.dataParallel * choice.stages;
  return {
    gpus,
    pods: gpus,
    gpusPerPod: 1,
    dataParallel: choice.dataParallel,
    pipelineStages: choice.stages,
    sharding: spec.mode === "full" && choice.dataParallel > 1 ? "optimizer" : "none",
    microBatchSize: choice.microBatchSize,
    accumulationSteps: spec.training.globalBatchSize / choice.dataParallel / choice.microBatchSize,
    recomputeActivations: choice.recomputeActivations,
  };
}

/** Memory and time of one layout on one accelerator. */
function evaluateLayout(workload: Workload, accelerator: Accelerator, layout: Layout): Candidate {
  const { spec, model, profile, steps } = workload;
  const isFull = spec.mode === "full";
  const { longest } = profile;
  const memory = estimateMemory({
    architecture: model.architecture,
    trainable: isFull
      ? { decoder: "full", vision: "full", bridge: "full", embeddings: "full" }
      : {
          decoder: "adapter",
          vision: spec.training.lora.includeVision ? "adapter" : "frozen",
          bridge: "frozen",
          embeddings: "frozen",
        },
    lora: isFull ? null : { rank: spec.training.lora.rank, targets: plannedTargets(spec.training.lora) },
    baseWeights: countedAs(spec, model),
    layout: { ...layout, tensorParallel: 1 },
    sample: {
      tokens: longest.total,
      labels: longest.labels,
      patches: longest.patches,
      patchesPerSegment: longest.patchesPerSegment,
    },
    recipe: accelerator.kind === "cpu" ? drydockCpuRecipe : drydockGpuRecipe,
  });
  return {
    accelerator,
    layout,
    memory,
    availableBytes: Math.floor(accelerator.memoryBytes * usableShare),
    time: estimateDuration({ spec, model, accelerator, layout, mean: profile.mean, steps }),
  };
}

function fits(candidate: Candidate): boolean {
  return candidate.memory.totalBytes <= candidate.availableBytes;
}

function excess(candidate: Candidate): number {
  return candidate.memory.totalBytes / candidate.availableBytes;
}

/** At most so many layouts are offered for when memory runs out: the remedy is tried three times. */
const maxAlternatives = 3;

/**
 * Layouts to fall back to when memory runs out all the same, in order, each needing less than the one before: half the
 * micro-batch (the global batch is kept), recomputed activations, more pipeline stages on the same GPUs.
 */
export function alternativesTo(workload: Workload, chosen: Candidate): Layout[] {
  const { layout } = chosen;
  const choices: LayoutChoice[] = [];
  let choice: LayoutChoice = {
    dataParallel: layout.dataParallel,
    stages: layout.pipelineStages,
    microBatchSize: layout.microBatchSize,
    recomputeActivations: layout.recomputeActivations,
  };
  const push = (next: Partial<LayoutChoice>): void => {
    choice = { ...choice, ...next };
    choices.push(choice);
  };
  while (choice.microBatchSize % 2 === 0 && choices.length < maxAlternatives)
    push({ microBatchSize: choice.microBatchSize / 2 });
  if (!choice.recomputeActivations) push({ recomputeActivations: true });
  while (choice.dataParallel % 2 === 0 && choice.stages * 2 <= workload.model.architecture.text.layers)
    push({ dataParallel: choice.dataParallel / 2, stages: choice.stages * 2 });
  let least = chosen.memory.totalBytes;
  const kept = choices.filter((next) => {
    const needed = evaluateLayout(workload, chosen.accelerator, makeLayout(workload.spec, next)).memory.totalBytes;
    const isLess = needed < least;
    if (isLess) least = needed;
    return isLess;
  });
  return kept.slice(0, maxAlternatives).map((next) => makeLayout(workload.spec, next));
}

function powersOfTwo(limit: number): number[] {
  const powers: number[] = [];
  for (let power = 1; power <= limit; power *= 2) powers.push(power);
  return powers;
}
