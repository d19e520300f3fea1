import type { Layout, Plan } from "../contract/plan.ts";
import { formatBytes, formatCount, formatInteger, formatSeconds, plural } from "./format.ts";

/** A plan as plain text lines for a terminal, at most about 120 columns except for formulas. */
export function explainPlan(plan: Plan): string[] {
  return [
    ...explainModel(plan),
    ...explainAccelerator(plan),
    ...explainMemory(plan),
    ...explainTokens(plan),
    ...explainTime(plan),
    ...explainNotes("Warnings", plan.warnings),
    ...explainNotes("Refused", plan.refusals),
    "",
    plan.refusals.length > 0 ? "This run would be refused." : `Plan ${plan.digest.slice(0, 12)}: ready to run.`,
  ];
}

function explainModel({ model }: Plan): string[] {
  const share =
    model.parameters === 0 ? "" : ` (${((100 * model.trainableParameters) / model.parameters).toFixed(2)} %)`;
  return [
    row(
      "Model",
      `${model.name}, ${formatCount(model.parameters)} parameters, ${formatCount(model.trainableParameters)} trained${share}`,
    ),
    row("License", model.license),
  ];
}

function explainAccelerator({ accelerator, layout, alternatives }: Plan): string[] {
  if (accelerator === null || layout === null) return [];
  return [
    row(
      "Accelerator",
      `${layout.gpus} × ${accelerator.name} (${formatBytes(accelerator.memoryBytes)}): ${accelerator.reason}`,
    ),
    row("Layout", describeLayout(layout)),
    ...alternatives.map((alternative, index) => row(index === 0 ? "If memory ends" : "", describeLayout(alternative))),
  ];
}

/** One layout in words: `2 pods, 2 × data parallel, micro-batch 4 × 2 accumulated`. */
export function describeLayout(layout: Layout): string {
  const parts = [
    plural(layout.pods, "pod"),
    layout.dataParallel > 1 ? `${layout.dataParallel} × data parallel` : "",
    layout.pipelineStages > 1 ? `${layout.pipelineStages} pipeline stages` : "",
    layout.sharding === "optimizer" ? "optimizer state sharded" : layout.sharding === "full" ? "all state sharded" : "",
    `micro-batch ${layout.microBatchSize} × ${layout.accumulationSteps} accumulated`,
    layout.recomputeActivations ? "activations recomputed" : "activations kept",
  ];
  return parts.filter((part) => part !== "").join(", ");
}

function explainMemory({ memory }: Plan): string[] {
  if (memory === null) return [];
  const lines = memory.terms.map(
    (term) => `  ${term.name.padEnd(12)}${formatBytes(term.sizeBytes).padStart(12)}   ${term.formula}`,
  );
  return [
    "",
    "Memory of each device",
    ...lines,
    `  ${"total".padEnd(12)}${formatBytes(memory.totalBytes).padStart(12)}   of ${formatBytes(memory.availableBytes)} usable; ${formatBytes(memory.hostBytes)} of host memory in each pod`,
  ];
}

function explainTokens({ tokens }: Plan): string[] {
  const line = (name: string, values: { p50: number; p95: number; max: number }): string =>
    `  ${name.padEnd(12)}${[values.p50, values.p95, values.max].map((value) => formatInteger(value).padStart(10)).join("")}`;
  const basis =
    tokens.basis === "data"
      ? `${plural(tokens.samples, "sample")} of the data set`
      : "assumed: one picture and a short question";
  return [
    "",
    `Tokens a sample (${basis}; ${tokens.textIsEstimate ? "text estimated from characters" : "text counted by the tokenizer"})`,
    `  ${"".padEnd(12)}${["p50", "p95", "max"].map((name) => name.padStart(10)).join("")}`,
    line("visual", tokens.visual),
    line("text", tokens.text),
    line("total", tokens.total),
    `  window ${formatInteger(tokens.contextWindow)}: ${tokens.overWindow === 0 ? "all fit" : `${plural(tokens.overWindow, "sample")} over it`}`,
  ];
}

function explainTime({ steps, timeSeconds, cost, queueWait }: Plan): string[] {
  const lines = [
    "",
    row(
      "Steps",
      `${formatInteger(steps.total)} (${steps.perEpoch} an epoch, global batch ${steps.globalBatchSize}; ${steps.basis})`,
    ),
  ];
  if (timeSeconds !== null)
    lines.push(
      row(
        "Time",
        `about ${formatSeconds(timeSeconds.expected)} (${formatSeconds(timeSeconds.low)} to ${formatSeconds(timeSeconds.high)})`,
      ),
      row("", timeSeconds.basis),
    );
  if (cost !== null)
    lines.push(row("Cost", `about ${cost.expected} ${cost.currency} (${cost.low} to ${cost.high}); ${cost.basis}`));
  lines.push(
    row(
      "Queue",
      queueWait.expectedSeconds === null
        ? queueWait.basis
        : `about ${formatSeconds(queueWait.expectedSeconds)}; ${queueWait.basis}`,
    ),
  );
  return lines;
}

function explainNotes(title: string, notes: Plan["warnings"]): string[] {
  if (notes.length === 0) return [];
  return ["", title, ...notes.map((note) => `  ${note.path}: ${note.message} [${note.code}]`)];
}

function row(name: string, text: string): string {
  return `${name.padEnd(15)}${text}`;
}
