import type { ModelFacts } from "../catalogue/model-facts.ts";
import type { DatasetStatistics } from "../contract/dataset.ts";
import type { PlanNote } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import type { TokenProfile } from "../tokens/token-monitor.ts";
import { formatCount, formatInteger, plural } from "./format.ts";

/** Data minimums of design §10, in pictures and question-answer pairs. */
export const dataMinimums = {
  refused: { images: 20, pairs: 100 },
  warned: { images: 100, pairs: 500 },
  production: { images: 500, pairs: 1000 },
} as const;

export interface Advice {
  readonly warnings: readonly PlanNote[];
  readonly refusals: readonly PlanNote[];
}

/** What the data set's size says about the run: refused, warned about, or fit for production; and whether the model suits it. */
export function adviseOnData(
  spec: RunSpec,
  model: ModelFacts,
  parameters: number,
  statistics: DatasetStatistics | null,
): Advice {
  if (statistics === null) return { warnings: [], refusals: [] };
  const needsPictures = spec.task !== "chat" || statistics.images > 0;
  const isBelow = (minimum: { images: number; pairs: number }): boolean =>
    (needsPictures && statistics.images < minimum.images) || statistics.pairs < minimum.pairs;
  const has = `The data set has ${plural(statistics.images, "picture")} and ${plural(statistics.pairs, "pair")}`;
  const warnings: PlanNote[] = [];
  const refusals: PlanNote[] = [];
  if (isBelow(dataMinimums.refused)) {
    const text = `${has}; at least ${dataMinimums.refused.images} pictures and ${dataMinimums.refused.pairs} pairs are needed.`;
    if (spec.allowSmall)
      warnings.push({
        code: "data_below_minimum",
        path: "dataset",
        message: `${text} Training all the same because allowSmall is set; expect the model to repeat the data.`,
      });
    else
      refusals.push({
        code: "data_below_minimum",
        path: "dataset",
        message: `${text} Add data, or set allowSmall to train all the same.`,
      });
  } else if (isBelow(dataMinimums.warned))
    warnings.push({
      code: "data_small",
      path: "dataset",
      message: `${has}: enough to try, little to rely on. From ${dataMinimums.warned.images} pictures and ${dataMinimums.warned.pairs} pairs results settle.`,
    });
  else if (isBelow(dataMinimums.production))
    warnings.push({
      code: "data_below_production",
      path: "dataset",
      message: `${has}. For production use aim at ${dataMinimums.production.images} pictures and ${dataMinimums.production.pairs} pairs.`,
    });
  if (statistics.trainRows === 0)
    refusals.push({
      code: "no_training_rows",
      path: "dataset",
      message:
        "Every row is in the validation split, so there is nothing to train on. Lower validationShare and import again.",
    });
  return {
    warnings: [
      ...warnings,
      ...adviseOnSize(spec, model, parameters, statistics),
      ...adviseOnValidation(statistics),
      ...adviseOnTask(spec, statistics),
    ],
    refusals: [...refusals, ...checkBoxes(spec, statistics)],
  };
}

function adviseOnSize(spec: RunSpec, model: ModelFacts, parameters: number, statistics: DatasetStatistics): PlanNote[] {
  const notes: PlanNote[] = [];
  const largest = statistics.images < 100 ? 4.6e9 : statistics.images < 1000 ? 10e9 : Infinity;
  if (parameters > largest)
    notes.push({
      code: "model_large_for_data",
      path: "model",
      message: `${model.title} (${formatCount(parameters)} parameters) is large for ${plural(statistics.images, "picture")}. Models up to ${largest < 5e9 ? "4B" : "9B"} learn as much from so few and cost less; or add data.`,
    });
  if (spec.mode === "full" && statistics.images < 200 && parameters > 1e8)
    notes.push({
      code: "full_needs_more_data",
      path: "mode",
      message: `Full fine-tuning on ${plural(statistics.images, "picture")} tends to forget what the base knew. Below 200 use mode "lora".`,
    });
  return notes;
}

function adviseOnValidation(statistics: DatasetStatistics): PlanNote[] {
  if (statistics.validationRows >= 10) return [];
  return [
    {
      code: "validation_small",
      path: "dataset",
      message: `Only ${plural(statistics.validationRows, "row")} to validate on, so scores will jump by chance. Keep at least 10.`,
    },
  ];
}

/** A model that is taught boxes only learns to answer questions with boxes. The reverse has no boxes at all and is refused. */
function adviseOnTask(spec: RunSpec, { tasks, rows }: DatasetStatistics): PlanNote[] {
  if (spec.task === "phrase-grounding" || rows === 0 || tasks["phrase-grounding"] !== rows) return [];
  return [
    {
      code: "task_not_in_data",
      path: "task",
      message: `Task "${spec.task}" asks for answers in words, but all ${plural(rows, "row")} of the data set are phrases with boxes: the model would learn to answer with boxes. Use task "phrase-grounding", or import rows with questions and answers.`,
    },
  ];
}

function checkBoxes(spec: RunSpec, statistics: DatasetStatistics): PlanNote[] {
  if (spec.task !== "phrase-grounding" || statistics.boxes > 0) return [];
  return [
    {
      code: "no_boxes",
      path: "task",
      message: `Task "phrase-grounding" needs boxes and the data set has none. Import annotations with boxes, or use task "vqa".`,
    },
  ];
}

/** More than this many visual tokens a sample are seldom worth their memory. */
const manyVisualTokens = 2048;

/** What the token monitor says: prompts and rows over the window, pictures too thin, pictures that cost much. */
export function adviseOnTokens(
  spec: RunSpec,
  model: ModelFacts,
  profile: TokenProfile,
  systemPromptTokens: number,
): Advice {
  const { monitor } = profile;
  const warnings: PlanNote[] = [];
  const refusals: PlanNote[] = [];
  const window = `${model.title}'s context window of ${formatInteger(monitor.contextWindow)} tokens`;
  const counted = Math.max(1, monitor.samples - profile.tooThin);
  if (systemPromptTokens >= monitor.contextWindow)
    refusals.push({
      code: "prompt_over_window",
      path: "systemPrompt",
      message: `The system prompt alone takes about ${formatInteger(systemPromptTokens)} tokens, more than ${window}. Shorten it.`,
    });
  else if (monitor.overWindow >= counted)
    refusals.push({
      code: "prompt_over_window",
      path: monitor.basis === "data" ? "dataset" : "systemPrompt",
      message: `No sample fits ${window}: the shortest half takes up to ${formatInteger(monitor.total.p50)} (${formatInteger(monitor.visual.p50)} of them for pictures). Lower image.maxPixels or shorten the prompts.`,
    });
  else if (monitor.overWindow > 0)
    warnings.push({
      code: "rows_over_window",
      path: "dataset",
      message: `${plural(monitor.overWindow, "row")} of ${formatInteger(counted)} counted exceed ${window} (longest ${formatInteger(monitor.total.max)}) and will be left out, never cut. Lower image.maxPixels or shorten their prompts to keep them.`,
    });
  if (profile.tooThin > 0)
    warnings.push({
      code: "pictures_too_thin",
      path: "dataset",
      message: `${plural(profile.tooThin, "row")} have a picture with one side more than 200 times the other, which ${model.title} refuses; they will be left out. Crop the pictures to keep them.`,
    });
  if (monitor.visual.p95 > manyVisualTokens && spec.image.maxPixels === undefined)
    warnings.push({
      code: "pictures_cost_many_tokens",
      path: "image.maxPixels",
      message: `Pictures take up to ${formatInteger(monitor.visual.max)} tokens each sample. Setting image.maxPixels to 1003520 keeps them near 1,000 and saves memory and time; small details may be lost.`,
    });
  if (spec.task === "phrase-grounding" && model.boxConvention === "undocumented")
    warnings.push({
      code: "box_convention_undocumented",
      path: "task",
      message: `${model.title} has no documented way of writing boxes; Drydock teaches it JSON with 0–1000 coordinates from your data alone. A Qwen or InternVL model starts with that knowledge.`,
    });
  return { warnings, refusals };
}
