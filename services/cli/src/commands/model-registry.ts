import { InvalidError } from "@drydock/kit";
import { ModelStage, type Model, type ModelComparison } from "@drydock/spec";
import type { Command } from "commander";
import { formatBytes } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf, oneOf, splitModelReference, wholeNumber, type CommandContext } from "./context.ts";
import { everyPage } from "./pages.ts";

/** `drydock model stage|alias|notes|history|compare|rollback`: what is done with models once they are made. */
export function addModelRegistryCommands(model: Command): void {
  addStage(model);
  addAlias(model);
  addNotes(model);
  addHistory(model);
  addCompare(model);
  addRollback(model);
}

/** The version that a reference means now. Changes are made to a number, so that an alias cannot move in between. */
export async function fixedVersion({ client }: CommandContext, reference: string): Promise<Model> {
  const { name, version } = splitModelReference(reference);
  return await client().getModel(name, version);
}

function addStage(model: Command): void {
  model
    .command("stage")
    .argument("<model>", "name@version or name@alias")
    .argument("<stage>", `one of ${ModelStage.options.join(", ")}`, oneOf("stage", ModelStage.options))
    .option("--message <text>", "why; part of the history", "")
    .description("move a version to another stage; to production its files are verified first")
    .action(async function (this: Command, reference: string, to: ModelStage, { message }: { message: string }) {
      const context = contextOf(this);
      const { name, version } = await fixedVersion(context, reference);
      const changed = await context.registry().changeStage(name, version, to, message);
      context.output.answer(changed, () => [`${name}@${version} is in stage ${changed.stage}.`]);
    });
}

function addAlias(model: Command): void {
  const alias = model.command("alias").description("names that point at a version, as in name@alias");
  alias
    .command("list")
    .argument("<model>", "its name")
    .description("aliases of a model")
    .action(async function (this: Command, name: string) {
      const { registry, output } = contextOf(this);
      const items = await registry().listAliases(name);
      output.answer(items, () =>
        table(
          ["alias", "means", "since", "by"],
          items.map((item) => [item.alias, `${name}@${item.version}`, item.updatedAt, item.updatedBy]),
        ),
      );
    });
  alias
    .command("set")
    .argument("<model>", "name@version or name@alias")
    .argument("<alias>")
    .description("point an alias at a version")
    .action(async function (this: Command, reference: string, wanted: string) {
      const context = contextOf(this);
      const { name, version } = await fixedVersion(context, reference);
      const changed = await context.registry().setAlias(name, wanted, version);
      context.output.answer(changed, () => [`${name}@${wanted} means ${name}@${version}.`]);
    });
  alias
    .command("remove")
    .argument("<model>", "its name")
    .argument("<alias>")
    .description("remove an alias; the version stays")
    .action(async function (this: Command, name: string, wanted: string) {
      const { registry, output } = contextOf(this);
      const changed = await registry().removeAlias(name, wanted);
      output.answer(changed, () => [`${name}@${wanted} is gone; ${name}@${changed.version} stays.`]);
    });
}

function addNotes(model: Command): void {
  model
    .command("notes")
    .argument("<model>", "name, name@version or name@alias")
    .argument("[text]", "the new notes; empty removes them, none shows them")
    .description("show or change the notes of a version")
    .action(async function (this: Command, reference: string, text: string | undefined) {
      const context = contextOf(this);
      const found = await fixedVersion(context, reference);
      const shown = text === undefined ? found : await context.registry().changeNotes(found.name, found.version, text);
      context.output.answer({ model: `${shown.name}@${shown.version}`, notes: shown.notes }, () => [
        shown.notes === "" ? "(none)" : shown.notes,
      ]);
    });
}

function addHistory(model: Command): void {
  model
    .command("history")
    .argument("<model>", "name, or name@version for one version")
    .option("--limit <number>", "so many events at most", wholeNumber("--limit", 1), 50)
    .description("what happened to a model, newest first")
    .action(async function (this: Command, reference: string, { limit }: { limit: number }) {
      const context = contextOf(this);
      const { name } = splitModelReference(reference);
      const version = reference.includes("@") ? (await fixedVersion(context, reference)).version : undefined;
      const items = await everyPage((query) => context.registry().listHistory(name, { ...query, version }), limit);
      context.output.answer(items, () =>
        table(
          ["time", "version", "what", "by", "message"],
          items.map((event) => [event.time, `@${event.version}`, event.type, event.actor, event.message]),
        ),
      );
    });
}

function addCompare(model: Command): void {
  model
    .command("compare")
    .argument("<model>", "its name")
    .argument("<versions...>", "two or more numbers or aliases; the first is what others are measured against")
    .description("versions beside each other: specs, data, scores, lineage")
    .action(async function (this: Command, name: string, versions: string[]) {
      const { registry, output } = contextOf(this);
      if (versions.length < 2)
        throw new InvalidError("usage", `name two versions of ${name} or more, e.g. drydock model compare ${name} 1 2`);
      const comparison = await registry().compare(name, versions);
      output.answer(comparison, () => describeComparison(comparison));
    });
}

function describeComparison({ name, versions, spec, lineage, scores }: ModelComparison): string[] {
  const heads = versions.map(({ version }) => `${name}@${version}`);
  const rowOf = (title: string, values: readonly unknown[]): string[] => [title, ...values.map(textOf)];
  return [
    ...table(
      ["", ...heads],
      [
        rowOf(
          "stage",
          versions.map(({ stage, aliases }) => [stage, ...aliases.map((alias) => `@${alias}`)].join(" ")),
        ),
        rowOf(
          "data",
          versions.map(({ dataset }) => dataset),
        ),
        rowOf(
          "size",
          versions.map(({ sizeBytes }) => formatBytes(sizeBytes)),
        ),
        ...scores.map(({ metric, values }) =>
          rowOf(
            metric,
            values.map((value) => value?.toFixed(2) ?? null),
          ),
        ),
      ],
    ),
    ...differences("spec", heads, spec),
    ...differences("lineage", heads, lineage),
  ];
}

function differences(
  title: string,
  heads: readonly string[],
  items: readonly { readonly path: string; readonly values: readonly unknown[] }[],
): string[] {
  if (items.length === 0) return ["", `The ${title} is the same.`];
  const rows = items.map(({ path, values }) => [path, ...values.map(textOf)]);
  return ["", ...table([title, ...heads], rows)];
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "-";
  return typeof value === "string" ? value : JSON.stringify(value);
}

function addRollback(model: Command): void {
  model
    .command("rollback")
    .argument("<model>", "its name")
    .option("--message <text>", "why; part of the history", "")
    .description("put the version into production again that was there before")
    .action(async function (this: Command, name: string, { message }: { message: string }) {
      const { registry, output } = contextOf(this);
      const result = await registry().rollBack(name, message);
      output.answer(result, () =>
        fields({
          "in production": `${name}@${result.version}`,
          archived: result.previous === null ? null : `${name}@${result.previous}`,
        }),
      );
    });
}
