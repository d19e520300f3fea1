import { findAccelerator, accelerators } from "../accelerators/accelerators.ts";
import type { AcceleratorSupply } from "../accelerators/accelerator.ts";
import { catalogueNames } from "../catalogue/catalogue.ts";
import { drydockTinyVlName } from "../catalogue/drydock-tiny-vl.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import { decoderLinears } from "../catalogue/parameters.ts";
import type { PlanNote } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import { plural } from "./format.ts";

/** Refuses a model whose facts are neither in the catalogue nor given by the caller. */
export function refuseUnknownModel(reference: RunSpec["model"]): PlanNote {
  return { code: "unknown_model", path: "model", message: unknownModelMessage(reference) };
}

function unknownModelMessage(reference: RunSpec["model"]): string {
  if (typeof reference !== "string")
    return `No config.json was found in ${reference.uri}. Use the URI of a folder in Hugging Face layout that this server can read.`;
  if (reference.toLowerCase() === drydockTinyVlName)
    return `The folder of ${drydockTinyVlName} is not here, so its sizes are not known. Use \`make tiny-base\` to make it, or another model.`;
  return `There is no model "${reference}". Use one of ${catalogueNames.join(", ")}, a name@version that Drydock made, or { "uri": … } of a Hugging Face folder.`;
}

/** Combinations of the spec that can never train, whatever the data and the cluster. */
export function checkSpec(spec: RunSpec, model: ModelFacts): PlanNote[] {
  return [
    ...checkMode(spec, model),
    ...checkLora(spec, model),
    ...checkBatch(spec),
    ...checkPixels(spec),
    ...checkStages(spec, model),
  ];
}

function checkMode(spec: RunSpec, model: ModelFacts): PlanNote[] {
  const notes: PlanNote[] = [];
  if (!model.modes.includes(spec.mode))
    notes.push({
      code: "mode_not_supported",
      path: "mode",
      message: `${model.title} cannot be trained with mode "${spec.mode}": ${model.modeRefusal ?? "its family does not support it"}. Use mode "${model.modes.join('" or "')}", or another model for ${spec.mode}.`,
    });
  if (spec.mode === "full" && spec.training.baseWeights !== "bf16")
    notes.push({
      code: "quantized_base_needs_lora",
      path: "training.baseWeights",
      message: `Full fine-tuning changes every weight, and ${spec.training.baseWeights} weights cannot be changed in small steps. Use baseWeights "bf16" or mode "lora".`,
    });
  const { storedIn } = model;
  if (storedIn === undefined) return notes;
  if (spec.mode === "full")
    notes.push({
      code: "quantized_base_needs_lora",
      path: "mode",
      message: `${model.title} holds its weights in ${storedIn}, and full fine-tuning changes every weight in small steps. Use mode "lora", or the model that it was made from.`,
    });
  if (spec.training.baseWeights !== "bf16" && spec.training.baseWeights !== storedIn)
    notes.push({
      code: "already_quantized",
      path: "training.baseWeights",
      message: `${model.title} holds its weights in ${storedIn} already; to train on ${spec.training.baseWeights}, use the model that it was made from, or leave baseWeights out.`,
    });
  return notes;
}

function checkLora(spec: RunSpec, model: ModelFacts): PlanNote[] {
  if (spec.mode !== "lora") return [];
  const { rank, targets, includeVision } = spec.training.lora;
  if (rank < 1)
    return [
      {
        code: "rank_not_positive",
        path: "training.lora.rank",
        message: `A rank of ${rank} leaves nothing to train. Use 1 or more; 16 is usual.`,
      },
    ];
  const names = decoderLinears(model.architecture.text).map((layer) => layer.name);
  // Paths, expressions and layers of the vision part are compared with the model itself, when it is opened.
  if (typeof targets === "string" || includeVision) return [];
  return checkTargets(
    targets.filter((target) => !target.includes(".")),
    names,
  );
}

function checkTargets(targets: readonly string[], names: readonly string[]): PlanNote[] {
  const unknown = targets.filter((target) => !names.includes(target));
  if (unknown.length === 0) return [];
  const known = [...new Set(names)].join(", ");
  return [
    {
      code: "unknown_lora_target",
      path: "training.lora.targets",
      message: `This model has no layer named ${unknown.map((name) => `"${name}"`).join(", ")}. Use "all-linear" or some of ${known}.`,
    },
  ];
}

function checkBatch(spec: RunSpec): PlanNote[] {
  const { globalBatchSize, microBatchSize } = spec.training;
  if (microBatchSize === undefined || globalBatchSize % microBatchSize === 0) return [];
  return [
    {
      code: "micro_batch_does_not_divide",
      path: "training.microBatchSize",
      message: `A global batch of ${globalBatchSize} cannot be made of micro-batches of ${microBatchSize}. Use a divisor of ${globalBatchSize}, or leave it out and let the plan choose.`,
    },
  ];
}

function checkPixels(spec: RunSpec): PlanNote[] {
  const { minPixels, maxPixels } = spec.image;
  if (minPixels === undefined || maxPixels === undefined || minPixels <= maxPixels) return [];
  return [
    {
      code: "pixel_bounds_crossed",
      path: "image.minPixels",
      message: `minPixels ${minPixels} is above maxPixels ${maxPixels}. Lower the one or raise the other.`,
    },
  ];
}

function checkStages(spec: RunSpec, model: ModelFacts): PlanNote[] {
  if (spec.resources === "auto") return [];
  const { gpus, pipelineStages } = spec.resources;
  const layers = model.architecture.text.layers;
  const notes: PlanNote[] = [];
  if (pipelineStages !== undefined && pipelineStages > layers)
    notes.push({
      code: "more_stages_than_layers",
      path: "resources.pipelineStages",
      message: `${model.title} has ${plural(layers, "decoder layer")}, which cannot be split into ${pipelineStages} pipeline stages. Use at most ${layers}.`,
    });
  if (gpus !== undefined && pipelineStages !== undefined && gpus % pipelineStages !== 0)
    notes.push({
      code: "stages_do_not_divide_gpus",
      path: "resources.gpus",
      message: `${plural(gpus, "GPU")} cannot hold whole copies of ${plural(pipelineStages, "pipeline stage")}. Use a multiple of ${pipelineStages}.`,
    });
  return notes;
}

/** Whether the cluster has what the spec names. */
export function checkSupply(spec: RunSpec, supply: readonly AcceleratorSupply[]): PlanNote[] {
  const wanted = spec.resources === "auto" ? {} : spec.resources;
  const names = supply.map((entry) => entry.accelerator.name).join(", ") || "none";
  const matching = supply.filter(
    (entry) => wanted.accelerator === undefined || entry.accelerator.name === wanted.accelerator.toLowerCase(),
  );
  if (wanted.accelerator !== undefined && matching.length === 0) {
    const isKnown = findAccelerator(wanted.accelerator) !== undefined;
    const known = accelerators.map((accelerator) => accelerator.name).join(", ");
    return [
      isKnown
        ? {
            code: "accelerator_not_available",
            path: "resources.accelerator",
            message: `There is no ${wanted.accelerator} here. Available: ${names}.`,
          }
        : {
            code: "unknown_accelerator",
            path: "resources.accelerator",
            message: `"${wanted.accelerator}" is no accelerator that Drydock knows. Use one of ${known}.`,
          },
    ];
  }
  const most = Math.max(0, ...matching.map((entry) => entry.maxDevices));
  if (wanted.gpus !== undefined && wanted.gpus > most)
    return [
      {
        code: "not_enough_gpus",
        path: "resources.gpus",
        message: `The run asks for ${plural(wanted.gpus, "GPU")}; at most ${most} of one kind are here. Ask for fewer or add nodes.`,
      },
    ];
  return [];
}
