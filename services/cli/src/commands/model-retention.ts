import { InvalidError } from "@drydock/kit";
import { ModelStage, type RetentionOutcome, type RetentionRule } from "@drydock/spec";
import type { Command } from "commander";
import type { z } from "zod";
import { formatBytes } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf, wholeNumber } from "./context.ts";

interface RuleFlags {
  readonly keepLast?: number;
  readonly keepStages?: string;
  readonly minimumAgeDays?: number;
  readonly keepBest?: string;
  readonly automatic?: boolean;
}

/** `drydock model retention …`: which versions of a model keep their files. */
export function addRetentionCommands(model: Command): void {
  const retention = model.command("retention").description("which versions of a model keep their files");
  retention
    .command("show")
    .argument("<model>", "its name")
    .description("the rule of a model")
    .action(async function (this: Command, name: string) {
      const { registry, output } = contextOf(this);
      const stored = await registry().getRetention(name);
      output.answer(stored, () => describeRule(stored.rule));
    });
  retention
    .command("set")
    .argument("<model>", "its name")
    .option("--keep-last <number>", "the newest so many versions", wholeNumber("--keep-last", 1))
    .option("--keep-stages <stages>", "comma-separated; production is always kept")
    .option("--minimum-age-days <number>", "younger versions are kept", wholeNumber("--minimum-age-days", 0))
    .option("--keep-best <metric:number>", "the best so many by a score, e.g. f1@0.5:3")
    .option("--automatic", "apply it once an hour")
    .description("set the rule of a model; nothing is removed until it is applied")
    .action(async function (this: Command, name: string, flags: RuleFlags) {
      const { registry, output } = contextOf(this);
      const stored = await registry().setRetention(name, ruleOf(flags));
      output.answer(stored, () => describeRule(stored.rule));
    });
  retention
    .command("preview")
    .argument("<model>", "its name")
    .description("what the rule would remove now, and why the rest is kept")
    .action(async function (this: Command, name: string) {
      const { registry, output } = contextOf(this);
      const outcome = await registry().previewRetention(name);
      output.answer(outcome, () => describeOutcome(outcome));
    });
  retention
    .command("apply")
    .argument("<model>", "its name")
    .description("remove the files of what the rule does not keep")
    .action(async function (this: Command, name: string) {
      const { registry, output } = contextOf(this);
      const outcome = await registry().applyRetention(name);
      output.answer(outcome, () => describeOutcome(outcome));
    });
}

/** @throws InvalidError `usage` */
function ruleOf({
  keepLast,
  keepStages,
  minimumAgeDays,
  keepBest,
  automatic,
}: RuleFlags): z.input<typeof RetentionRule> {
  return {
    ...(keepLast !== undefined && { keepLast }),
    ...(minimumAgeDays !== undefined && { minimumAgeDays }),
    ...(keepStages !== undefined && { keepStages: keepStages.split(",").filter(Boolean).map(stageOf) }),
    ...(keepBest !== undefined && { keepBest: bestOf(keepBest) }),
    ...(automatic === true && { automatic }),
  };
}

function stageOf(text: string): ModelStage {
  const stage = ModelStage.options.find((option) => option === text);
  if (stage !== undefined) return stage;
  throw new InvalidError("usage", `--keep-stages takes some of ${ModelStage.options.join(", ")}, not "${text}"`);
}

function bestOf(text: string): { metric: string; count: number } {
  const match = /^(.+):([1-9][0-9]*)$/.exec(text);
  if (match === null)
    throw new InvalidError("usage", `--keep-best takes a metric and a number, e.g. f1@0.5:3, not "${text}"`);
  return { metric: match[1]!, count: Number(match[2]) };
}

function describeRule({ keepLast, keepStages, minimumAgeDays, keepBest, automatic }: RetentionRule): string[] {
  return fields({
    "keep last": keepLast,
    "keep stages": keepStages.join(", "),
    "keep younger than": `${minimumAgeDays} days`,
    "keep best": keepBest === undefined ? null : `${keepBest.count} by ${keepBest.metric}`,
    applied: automatic ? "once an hour" : "when asked for",
  });
}

function describeOutcome({ name, items, sizeBytes, isApplied }: RetentionOutcome): string[] {
  const removed = items.filter(({ decision }) => decision === "remove").length;
  return [
    ...table(
      ["model", "decision", "size", "why"],
      items.map((item) => [
        `${name}@${item.version}`,
        item.decision,
        formatBytes(item.sizeBytes),
        item.reasons.join("; "),
      ]),
    ),
    "",
    `${isApplied ? "Removed" : "Would remove"} the files of ${removed} versions, ${formatBytes(sizeBytes)}.`,
  ];
}
