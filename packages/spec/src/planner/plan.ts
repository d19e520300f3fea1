import { plannedTargets } from "./lora-targets.ts";
import { accelerators, assumedSupply } from "../accelerators/accelerators.ts";
import type { AcceleratorSupply } from "../accelerators/accelerator.ts";
import { findModel } from "../catalogue/catalogue.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import { countParameters, loraParameters } from "../catalogue/parameters.ts";
import type { DatasetStatistics } from "../contract/dataset.ts";
import type { MemoryTerm, Plan, PlanNote } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import { assumedSystemPromptCharacters, textTokens } from "../tokens/text-tokens.ts";
import { profileTokens, type TokenProfile } from "../tokens/token-monitor.ts";
import { checkSpec, checkSupply, refuseUnknownModel } from "./checks.ts";
import { adviseOnData, adviseOnTokens } from "./data-advice.ts";
import { estimateCost } from "./duration.ts";
import { formatBytes, formatInteger, formatSeconds, plural } from "./format.ts";
import { alternativesTo, searchLayouts, type Candidate, type SearchResult, type Workload } from "./layout-search.ts";
import { planDigest } from "./plan-digest.ts";
import { assumedRows, type PlanInput } from "./plan-input.ts";

/**
 * Says what a run would need and why, without holding anything: accelerator, layout, memory by term, tokens, steps, time
 * and cost, with warnings and refusals. Never throws for a bad combination: the refusals say what to change. A plan with
 * refusals has `layout: null`; its `memory` is then that of the layout that came nearest, or null.
 */
export function plan(input: PlanInput): Plan {
  const { spec } = input;
  const model = input.model ?? (typeof spec.model === "string" ? findModel(spec.model) : undefined);
  if (model === undefined) return withDigest(unknownModelPlan(input));
  const supply = input.supply ?? defaultSupply(spec);
  const { workload, steps, warnings, refusals } = assess(input, model, supply);
  const search: SearchResult = refusals.length > 0 ? { fitting: [], closest: null } : searchLayouts(workload, supply);
  const chosen = choose(search.fitting, spec.deadlineSeconds);
  const isUnplaced = refusals.length === 0 && chosen === null;
  return withDigest({
    model: describeModel(spec, model),
    ...describePlacement(workload, chosen, search),
    tokens: workload.profile.monitor,
    steps,
    queueWait: input.queueWait ?? unknownWait,
    warnings: [...warnings, ...furtherWarnings(spec, model, input.statistics ?? null, chosen)],
    refusals: isUnplaced ? [refuseNoFit(workload, supply, search.closest)] : refusals,
  });
}

const unknownWait: Plan["queueWait"] = { expectedSeconds: null, basis: "not known before the run is queued" };

interface Assessment {
  readonly workload: Workload;
  readonly steps: Plan["steps"];
  readonly warnings: readonly PlanNote[];
  readonly refusals: PlanNote[];
}

/** Everything that can be said before a layout is looked for. */
function assess(input: PlanInput, model: ModelFacts, supply: readonly AcceleratorSupply[]): Assessment {
  const { spec } = input;
  const statistics = input.statistics ?? null;
  const systemPromptCharacters =
    (input.systemPrompt ?? spec.systemPrompt)?.length ?? assumedSystemPromptCharacters[spec.task];
  const hasCrossedPixels = (spec.image.minPixels ?? 0) > (spec.image.maxPixels ?? Infinity);
  const profile = profileTokens({
    scheme: model.architecture.visualTokens,
    task: spec.task,
    contextWindow: model.contextWindow,
    limits: hasCrossedPixels ? {} : spec.image,
    systemPromptCharacters,
    statistics,
  });
  const systemPromptTokens = textTokens(spec.task, {
    systemPromptCharacters,
    promptCharacters: 0,
    answerCharacters: 0,
  }).prompt;
  const onData = adviseOnData(spec, model, countParameters(model.architecture).total, statistics);
  const onTokens = adviseOnTokens(spec, model, profile, systemPromptTokens);
  const steps = countSteps(spec, statistics, profile);
  return {
    workload: { spec, model, profile, steps: steps.total },
    steps,
    warnings: [...onData.warnings, ...onTokens.warnings],
    refusals: [...checkSpec(spec, model), ...checkSupply(spec, supply), ...onData.refusals, ...onTokens.refusals],
  };
}

function describeModel(spec: RunSpec, model: ModelFacts): Plan["model"] {
  const parameters = countParameters(model.architecture).total;
  const { rank } = spec.training.lora;
  const trainableParameters =
    spec.mode === "full"
      ? parameters
      : loraParameters(model.architecture.text, rank, plannedTargets(spec.training.lora));
  return { name: model.name, family: model.family, parameters, trainableParameters, license: model.license };
}

type Placement = Pick<Plan, "accelerator" | "layout" | "alternatives" | "memory" | "timeSeconds" | "cost">;

function describePlacement(workload: Workload, chosen: Candidate | null, search: SearchResult): Placement {
  const shown = chosen ?? search.closest;
  const memory =
    shown === null
      ? null
      : {
          terms: [...shown.memory.terms],
          totalBytes: shown.memory.totalBytes,
          availableBytes: shown.availableBytes,
          hostBytes: hostBytes(shown, countParameters(workload.model.architecture).total),
        };
  if (chosen === null)
    return { accelerator: null, layout: null, alternatives: [], memory, timeSeconds: null, cost: null };
  const { name, memoryBytes } = chosen.accelerator;
  return {
    accelerator: { name, memoryBytes, reason: reasonFor(chosen, search.fitting, workload.spec) },
    layout: chosen.layout,
    alternatives: alternativesTo(workload, chosen),
    memory,
    timeSeconds: chosen.time,
    cost: estimateCost(chosen.accelerator, chosen.layout, chosen.time),
  };
}

/** Without a cluster at hand: any GPU, and the processor when the spec asks for it by name. */
function defaultSupply(spec: RunSpec): readonly AcceleratorSupply[] {
  const named = spec.resources === "auto" ? undefined : spec.resources.accelerator?.toLowerCase();
  const local = accelerators.find((accelerator) => accelerator.kind === "cpu" && accelerator.name === named);
  return local === undefined ? assumedSupply : [{ accelerator: local, maxDevices: local.devicesPerNode }];
}

function withDigest(content: Omit<Plan, "digest">): Plan {
  return { digest: planDigest(content), ...content };
}

/**
 * Steps of the run: `maxSteps`, else as many as the epochs take, epochs following one another without a break. Rows over
 * the window or with refused pictures are left out in the share that the sampled rows have of them.
 */
function countSteps(spec: RunSpec, statistics: DatasetStatistics | null, profile: TokenProfile): Plan["steps"] {
  const { epochs, globalBatchSize, maxSteps } = spec.training;
  const { monitor } = profile;
  const leftOut = monitor.samples === 0 ? 0 : (monitor.overWindow + profile.tooThin) / monitor.samples;
  const rows = statistics?.trainRows ?? assumedRows;
  const samples = Math.max(0, Math.round(rows * (1 - leftOut)));
  const basis =
    statistics === null
      ? `${formatInteger(assumedRows)} rows assumed: there is no data set yet`
      : `${plural(samples, "training row")} of the data set`;
  return {
    perEpoch: Number((samples / globalBatchSize).toFixed(3)),
    total: maxSteps ?? Math.max(1, Math.ceil((samples * epochs) / globalBatchSize)),
    globalBatchSize,
    samples,
    basis: maxSteps === undefined ? basis : `${basis}; training.maxSteps is ${maxSteps}`,
  };
}

/** The lowest price an hour that meets the deadline, so that larger GPUs stay free; else the fastest. */
function choose(fitting: readonly Candidate[], deadlineSeconds: number): Candidate | null {
  const inTime = fitting.filter((candidate) => candidate.time.expected <= deadlineSeconds);
  const better = (a: Candidate, b: Candidate): Candidate => {
    const difference =
      inTime.length > 0
        ? hourlyPrice(a) - hourlyPrice(b) || a.layout.gpus - b.layout.gpus
        : a.time.expected - b.time.expected;
    return difference <= 0 ? a : b;
  };
  const choices = inTime.length > 0 ? inTime : fitting;
  return choices.length === 0 ? null : choices.reduce(better);
}

function hourlyPrice(candidate: Candidate): number {
  return (candidate.accelerator.pricePerHour?.amount ?? 0) * candidate.layout.gpus;
}

function reasonFor(chosen: Candidate, fitting: readonly Candidate[], spec: RunSpec): string {
  const need = `${formatBytes(chosen.memory.totalBytes)} of ${formatBytes(chosen.availableBytes)} usable on each`;
  const named = spec.resources !== "auto" && spec.resources.accelerator !== undefined;
  if (named) return `named in the spec; ${need}`;
  if (fitting.length === 1) return `the only accelerator here that fits; ${need}`;
  const isInTime = chosen.time.expected <= spec.deadlineSeconds;
  const fastest = fitting.reduce((a, b) => (b.time.expected < a.time.expected ? b : a));
  const alternative =
    fastest === chosen
      ? ""
      : `; fastest would be ${fastest.layout.gpus} × ${fastest.accelerator.name} in about ${formatSeconds(fastest.time.expected)}`;
  return `${isInTime ? "lowest price an hour that fits and meets the deadline" : "fastest that fits"}; ${need}${alternative}`;
}

function refuseNoFit(
  { spec, model }: Workload,
  supply: readonly AcceleratorSupply[],
  closest: Candidate | null,
): PlanNote {
  const { globalBatchSize } = spec.training;
  if (closest === null) {
    const gpus = spec.resources === "auto" ? undefined : spec.resources.gpus;
    return supply.length === 0
      ? {
          code: "no_accelerator",
          path: "resources",
          message: 'There is no accelerator here. Add a node, or run on this computer with the accelerator "cpu".',
        }
      : {
          code: "batch_does_not_divide",
          path: "training.globalBatchSize",
          message: `A global batch of ${globalBatchSize} cannot be shared evenly by ${gpus === undefined ? "any number of GPUs here" : plural(gpus, "GPU")} with these pipeline stages and micro-batches. Use a multiple of the data-parallel ranks.`,
        };
  }
  const largest = closest.memory.terms.reduce((most, term) => (term.sizeBytes > most.sizeBytes ? term : most));
  return {
    code: "no_accelerator_fits",
    path: spec.resources === "auto" ? "model" : "resources",
    message: `${model.title} (${spec.mode}, ${model.storedIn ?? spec.training.baseWeights}) needs ${formatBytes(closest.memory.totalBytes)} on each of ${closest.layout.gpus} × ${closest.accelerator.name}, which offers ${formatBytes(closest.availableBytes)}; nothing here fits better. Most of it are the ${largest.name} (${formatBytes(largest.sizeBytes)}). To change that, ${remediesFor(spec, model, largest.name).join(", or ")}.`,
  };
}

/** What makes a run smaller, the remedy of its largest term first. */
function remediesFor(spec: RunSpec, { storedIn }: ModelFacts, largest: MemoryTerm["name"]): string[] {
  const smallerSamples = "lower image.maxPixels or shorten the samples";
  const smallerState =
    spec.mode === "full"
      ? 'use mode "lora"'
      : storedIn !== undefined || spec.training.baseWeights === "nf4"
        ? ""
        : 'set training.baseWeights to "nf4"';
  const isSamples = largest === "activations" || largest === "logits";
  const { microBatchSize } = spec.training;
  return [
    microBatchSize !== undefined && microBatchSize > 1 ? "leave training.microBatchSize out" : "",
    ...(isSamples ? [smallerSamples, smallerState] : [smallerState, smallerSamples]),
    spec.resources === "auto" ? "use a smaller model" : 'set resources to "auto" or allow more GPUs',
  ].filter((remedy) => remedy !== "");
}

/** Memory of the pod outside the accelerator: program, pictures read ahead, and a checkpoint shard on its way out. */
function hostBytes(candidate: Candidate, parameters: number): number {
  if (candidate.accelerator.kind === "cpu") return Math.ceil(candidate.memory.totalBytes);
  const state = candidate.memory.terms
    .filter((term) => term.name === "adapter" || term.name === "optimizer")
    .reduce((sum, term) => sum + term.sizeBytes, 0);
  const stageWeights = (2 * parameters) / candidate.layout.pipelineStages;
  return Math.ceil(2 * 2 ** 30 + state + stageWeights);
}

function furtherWarnings(
  spec: RunSpec,
  model: ModelFacts,
  statistics: DatasetStatistics | null,
  chosen: Candidate | null,
): PlanNote[] {
  const notes: PlanNote[] = [];
  if (statistics === null)
    notes.push({
      code: "no_data_yet",
      path: "dataset",
      message:
        "Planned without data: one picture of about a megapixel and short texts are assumed. Plan again once the data set is ready.",
    });
  if (chosen !== null && chosen.time.expected > spec.deadlineSeconds)
    notes.push({
      code: "deadline_too_short",
      path: "deadlineSeconds",
      message: `The run takes about ${formatSeconds(chosen.time.expected)}, longer than its deadline of ${formatSeconds(spec.deadlineSeconds)}. Raise deadlineSeconds, train fewer epochs, or add GPUs.`,
    });
  if (chosen !== null && chosen.accelerator.kind === "cpu" && chosen.layout.gpus > 1)
    notes.push({
      code: "ranks_share_machine",
      path: "resources.gpus",
      message: `The ${chosen.layout.gpus} ranks are ${chosen.layout.gpus} worker processes on this computer. Each gets its share of the memory and of the cores, so the run is no faster than with one.`,
    });
  const { hiddenSize } = model.architecture.text;
  if (spec.mode === "lora" && spec.training.lora.rank > hiddenSize)
    notes.push({
      code: "rank_large",
      path: "training.lora.rank",
      message: `Rank ${spec.training.lora.rank} is more than ${model.title}'s width of ${hiddenSize}, so the adapter is larger than the layers it adapts. Use a smaller rank, or mode "full".`,
    });
  if (/no commercial use/.test(model.license))
    notes.push({
      code: "license_restricts_use",
      path: "model",
      message: `${model.title} is under ${model.license}. Check that your use is allowed.`,
    });
  if (model.provenance.level === "inferred")
    notes.push({
      code: "model_facts_inferred",
      path: "model",
      message: `Sizes of ${model.title} are partly inferred: ${model.provenance.note}`,
    });
  return notes;
}

function unknownModelPlan(input: PlanInput): Omit<Plan, "digest"> {
  const { spec } = input;
  const name = typeof spec.model === "string" ? spec.model : spec.model.uri;
  const profile = profileTokens({
    scheme: null,
    task: spec.task,
    contextWindow: 0,
    limits: {},
    systemPromptCharacters: 0,
    statistics: input.statistics ?? null,
  });
  return {
    model: { name, family: "unknown", parameters: 0, trainableParameters: 0, license: "unknown" },
    accelerator: null,
    layout: null,
    alternatives: [],
    memory: null,
    tokens: { ...profile.monitor, overWindow: 0 },
    steps: countSteps(spec, input.statistics ?? null, { ...profile, monitor: { ...profile.monitor, overWindow: 0 } }),
    timeSeconds: null,
    cost: null,
    queueWait: input.queueWait ?? unknownWait,
    warnings: [],
    refusals: [refuseUnknownModel(spec.model)],
  };
}
