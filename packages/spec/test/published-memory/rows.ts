import { readFileSync } from "node:fs";
import { architectures, type ArchitectureName } from "./architectures.ts";
import { recipeNames, type RecipeName } from "./recipes.ts";

/** One published figure. Sources and captions: LLaMA-Factory, Qwen, ms-swift, Unsloth, axolotl, NeMo, nanoVLM; as of August 2026. */
export interface PublishedRow {
  readonly id: string;
  readonly model: ArchitectureName;
  readonly mode: "lora" | "full";
  readonly baseWeights?: "nf4" | undefined;
  readonly rank?: number | undefined;
  /** LoRA that also trains copies of embeddings and head. */
  readonly copiesEmbeddings?: boolean | undefined;
  readonly vision?: "frozen" | "adapter" | "full" | undefined;
  readonly batch: number;
  /** Positions per sample fed to the estimator, and how many of them are visual. */
  readonly tokens: number;
  readonly visualTokens?: number | undefined;
  readonly sharding?: "gradients" | "full" | undefined;
  readonly dataParallel?: number | undefined;
  readonly tensorParallel?: number | undefined;
  readonly pipelineStages?: number | undefined;
  readonly keepsActivations?: boolean | undefined;
  readonly recipe?: RecipeName | undefined;
  /** GB (10⁹) or GiB per GPU. */
  readonly measured: number;
  readonly unit: "GB" | "GiB";
  /** The length is exact (fixed or packed), so an estimate below −10 % would be a fault of the formulas. */
  readonly fixedLength?: boolean | undefined;
}

/**
 * Sequence-length series of Qwen and Qwen-VL: A100-80, batch 1, rank 64, every length exact. The unit of "G" is not
 * stated; 10⁹ bytes fits the row of 162 G on two 80 GB GPUs, which is impossible in GiB.
 */
interface Series {
  readonly id: string;
  readonly row: Omit<PublishedRow, "id" | "tokens" | "measured" | "unit" | "batch">;
  readonly lengths: readonly number[];
  readonly measured: readonly number[];
  /** Figures are the sum over so many GPUs. */
  readonly gpus?: number;
}

const lengths = [256, 512, 1024, 2048, 4096, 8192];
const lora = { mode: "lora", rank: 64 } as const;
const emb = { ...lora, copiesEmbeddings: true } as const;
const qlora = { ...lora, baseWeights: "nf4" } as const;

const series: readonly Series[] = [
  { id: "Qwen-1.8B LoRA", row: { model: "Qwen-1.8B", ...lora }, lengths, measured: [6.7, 7.4, 8.4, 11, 16.2, 21.8] },
  {
    id: "Qwen-1.8B LoRA emb",
    row: { model: "Qwen-1.8B", ...emb },
    lengths,
    measured: [13.7, 14, 14, 15.1, 19.7, 27.7],
  },
  { id: "Qwen-1.8B QLoRA", row: { model: "Qwen-1.8B", ...qlora }, lengths, measured: [5.8, 6, 6.6, 7.8, 10.2, 15.8] },
  {
    id: "Qwen-1.8B full",
    row: { model: "Qwen-1.8B", mode: "full" },
    lengths,
    measured: [43.5, 43.5, 43.5, 43.5, 47.1, 48.3],
  },
  { id: "Qwen-7B LoRA", row: { model: "Qwen-7B", ...lora }, lengths, measured: [20.1, 20.4, 21.5, 23.8, 29.7, 36.6] },
  {
    id: "Qwen-7B LoRA emb",
    row: { model: "Qwen-7B", ...emb },
    lengths,
    measured: [33.7, 34.1, 35.2, 35.1, 39.2, 48.5],
  },
  { id: "Qwen-7B QLoRA", row: { model: "Qwen-7B", ...qlora }, lengths, measured: [11.5, 11.5, 12.3, 13.9, 16.9, 23.5] },
  {
    id: "Qwen-7B full ZeRO-3",
    row: { model: "Qwen-7B", mode: "full", sharding: "full", dataParallel: 2 },
    lengths: [256, 512, 1024],
    measured: [139.2, 148, 162],
    gpus: 2,
  },
  {
    id: "Qwen-7B LoRA 2×2 ZeRO-2",
    row: { model: "Qwen-7B", ...lora, sharding: "gradients", dataParallel: 4 },
    lengths,
    measured: [74.7, 77.6, 84.9, 95.1, 121.1, 155.5],
    gpus: 4,
  },
  { id: "Qwen-14B LoRA", row: { model: "Qwen-14B", ...lora }, lengths, measured: [34.6, 35.1, 35.3, 37.4, 42.5, 55.2] },
  {
    id: "Qwen-14B LoRA emb",
    row: { model: "Qwen-14B", ...emb },
    lengths,
    measured: [51.2, 51.1, 51.5, 54.1, 56.8, 67.7],
  },
  { id: "Qwen-14B QLoRA", row: { model: "Qwen-14B", ...qlora }, lengths, measured: [18.7, 18.4, 18.9, 19.9, 23, 27.9] },
  {
    id: "Qwen-72B LoRA ZeRO-3",
    row: { model: "Qwen-72B", ...lora, sharding: "full", dataParallel: 4 },
    lengths,
    measured: [215.4, 217.7, 222.6, 228.8, 249, 289.2],
    gpus: 4,
  },
  { id: "Qwen-72B QLoRA", row: { model: "Qwen-72B", ...qlora }, lengths, measured: [61.4, 61.4, 62.9, 64.1, 68, 75.6] },
  {
    id: "Qwen-VL LoRA",
    row: { model: "Qwen-VL", ...lora, visualTokens: 256 },
    lengths: [384, 512, 1024, 2048],
    measured: [23.3, 23.6, 25.1, 27.3],
  },
  {
    id: "Qwen-VL LoRA emb",
    row: { model: "Qwen-VL", ...emb, visualTokens: 256 },
    lengths: [384, 512, 1024, 2048],
    measured: [37.1, 37.3, 38.7, 38.7],
  },
  {
    id: "Qwen-VL QLoRA",
    row: { model: "Qwen-VL", ...qlora, visualTokens: 256 },
    lengths: [384, 512, 1024, 2048],
    measured: [17, 17.2, 18.2, 19.3],
  },
];

const seriesRows: PublishedRow[] = series.flatMap(({ id, row, lengths: steps, measured, gpus }) =>
  steps.map((tokens, index) => ({
    ...row,
    id: `${id} ${tokens}`,
    batch: 1,
    tokens,
    measured: (measured[index] ?? 0) / (gpus ?? 1),
    unit: "GB" as const,
    fixedLength: true as const,
  })),
);

/**
 * Single runs, in `runs.csv`, GiB per GPU. Their length is a cap, seldom the samples' own, so one rule says what the
 * estimator is fed: the cap when the rows are packed or the cap is at most 2,048; else the pictures' budget (1,280 visual
 * tokens at 1,003,520 pixels, 3,328 for tiles) and 256 of text; the cap again for text of unknown length; 256 for text
 * that the caption calls short; 300 for Unsloth's formula pictures; 484 for 12 video frames of 50,176 pixels with liger.
 */
const runs: readonly PublishedRow[] = readFileSync(new URL("runs.csv", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .slice(1)
  .map(parseRun);

function parseRun(line: string): PublishedRow {
  const [
    id,
    model,
    mode,
    baseWeights,
    rank,
    vision,
    batch,
    tokens,
    visualTokens,
    sharding,
    dataParallel,
    tensorParallel,
    pipelineStages,
    keepsActivations,
    recipe,
    measured,
    fixedLength,
  ] = line.split(",");
  if (!isArchitecture(model) || (mode !== "lora" && mode !== "full")) throw new Error(`runs.csv: bad row "${line}"`);
  return {
    id: id ?? "",
    model,
    mode,
    baseWeights: oneOf(baseWeights, ["nf4"]),
    rank: optionalNumber(rank),
    vision: oneOf(vision, ["frozen", "adapter", "full"]),
    batch: Number(batch),
    tokens: Number(tokens),
    visualTokens: optionalNumber(visualTokens),
    sharding: oneOf(sharding, ["gradients", "full"]),
    dataParallel: optionalNumber(dataParallel),
    tensorParallel: optionalNumber(tensorParallel),
    pipelineStages: optionalNumber(pipelineStages),
    keepsActivations: keepsActivations === "yes",
    recipe: oneOf(recipe, recipeNames),
    measured: Number(measured),
    unit: "GiB",
    fixedLength: fixedLength === "yes",
  };
}

function isArchitecture(name: string | undefined): name is ArchitectureName {
  return name !== undefined && name in architectures;
}

function optionalNumber(text: string | undefined): number | undefined {
  return text === undefined || text === "" ? undefined : Number(text);
}

function oneOf<const Value extends string>(text: string | undefined, values: readonly Value[]): Value | undefined {
  if (text === undefined || text === "") return undefined;
  const found = values.find((value) => value === text);
  if (found === undefined) throw new Error(`runs.csv: "${text}" is not one of ${values.join(", ")}`);
  return found;
}

export const publishedRows: readonly PublishedRow[] = [...seriesRows, ...runs];

/** Published figures that no estimate can be made for, with the reason. They count neither for nor against. */
export const unusableRows: readonly { readonly ids: string; readonly reason: string }[] = [
  { ids: "s14, s15, s18, s19, u12, n2, s24", reason: "mixture of experts, which Drydock does not plan" },
  { ids: "u9, u10, u11, u13, x5, x6, x7, n1, s23", reason: "the model's sizes are not in the reference" },
  { ids: "s8b, s8c", reason: "recomputes either the tower or the decoder; Drydock recomputes both or neither" },
  { ids: "s20", reason: "sequence parallel, which Drydock does not plan" },
  { ids: "m1", reason: "parameters and optimizer moved to host memory, which Drydock does not plan" },
  {
    ids: "s22, t6 padding_free",
    reason: "rows of one batch are joined without padding and their real length is not published",
  },
  { ids: "t8 Megatron", reason: "tensor and pipeline split not published" },
  { ids: "x2b", reason: "number of GPUs not published" },
  { ids: "h1", reason: "batch and length not published" },
];
