import type { Command } from "commander";
import { formatBytes, formatScores } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { downloadModel } from "../predict/model-cache.ts";
import { contextOf, splitModelReference } from "./context.ts";
import { addLogitsCommand } from "./engine.ts";
import { addExportCommand } from "./export.ts";
import { addMergeCommand } from "./merge.ts";
import { addLiveCommands } from "./model-live.ts";
import { addModelRegistryCommands } from "./model-registry.ts";
import { addRetentionCommands } from "./model-retention.ts";
import { addVerifyCommand } from "./model-verify.ts";
import { everyPage } from "./pages.ts";
import { addQuantizeCommand } from "./quantize.ts";

/** `drydock model …`: what runs made. */
export function addModelCommands(program: Command): void {
  const model = program.command("model").description("models that runs made: list, look at, download");
  model
    .command("list")
    .option("--name <name>", "only versions of this model")
    .description("models, newest version first")
    .action(async function (this: Command, { name }: { name?: string }) {
      const { client, output } = contextOf(this);
      const items = await everyPage((query) => client().listModels({ ...query, name }));
      output.answer(items, () =>
        table(
          ["model", "stage", "kind", "task", "base", "data", "score before", "score after"],
          items.map((item) => [
            `${item.name}@${item.version}`,
            item.filesRemovedAt === null ? item.stage : `${item.stage}, files removed`,
            item.kind,
            item.task,
            item.lineage.base,
            item.lineage.dataset,
            formatScores(item.lineage.scores.before),
            formatScores(item.lineage.scores.after),
          ]),
        ),
      );
    });

  model
    .command("show")
    .argument("<model>", "name, name@version or name@alias")
    .description("a model with its files and prompt")
    .action(async function (this: Command, reference: string) {
      const { client, output } = contextOf(this);
      const { name, version } = splitModelReference(reference);
      const found = await client().getModel(name, version);
      output.answer(found, () => [
        ...fields({
          model: `${found.name}@${found.version}`,
          stage: found.stage,
          aliases: found.aliases.join(", "),
          kind: found.kind,
          task: found.task,
          base: found.lineage.base,
          data: found.lineage.dataset,
          "score before": formatScores(found.lineage.scores.before),
          "score after": formatScores(found.lineage.scores.after),
          "system prompt": found.systemPrompt,
          notes: found.notes,
          manifest: found.manifest === null ? "not signed" : found.manifest.digest.slice(0, 16),
          "files removed": found.filesRemovedAt,
        }),
        "",
        ...table(
          ["file", "size", "sha256"],
          found.files.map((file) => [file.name, formatBytes(file.sizeBytes), file.sha256.slice(0, 16)]),
        ),
      ]);
    });

  addLineage(model);
  addDownload(model);
  addLogitsCommand(model);
  addQuantizeCommand(model);
  addExportCommand(model);
  addMergeCommand(model);
  addModelRegistryCommands(model);
  addVerifyCommand(model);
  addRetentionCommands(model);
  addLiveCommands(model);
}

function addLineage(model: Command): void {
  model
    .command("lineage")
    .argument("<model>", "name, name@version or name@alias")
    .description("where a model came from: base, data, plan, run")
    .action(async function (this: Command, reference: string) {
      const { client, output } = contextOf(this);
      const { name, version } = splitModelReference(reference);
      const { lineage } = await client().getModel(name, version);
      output.answer(lineage, () =>
        fields({
          base: lineage.base,
          "base digest": lineage.baseDigest,
          run: `${lineage.runId}, step ${lineage.step}, ${lineage.mode}`,
          data: lineage.dataset,
          "data digest": lineage.datasetDigest,
          plan: lineage.planDigest,
          "code version": lineage.codeVersion,
          "score before": formatScores(lineage.scores.before),
          "score after": formatScores(lineage.scores.after),
        }),
      );
    });
}

function addDownload(model: Command): void {
  model
    .command("download")
    .argument("<model>", "name, name@version or name@alias")
    .argument("<dir>", "gets the files: a PEFT adapter or a whole Hugging Face folder")
    .description("download a model; each file is checked against its digest")
    .action(async function (this: Command, reference: string, directory: string) {
      const { client, output } = contextOf(this);
      const { name, version } = splitModelReference(reference);
      const found = await client().getModel(name, version);
      await downloadModel(client(), found, directory);
      output.answer({ model: `${found.name}@${found.version}`, directory, files: found.files }, () => [
        `Downloaded ${found.files.length} files of ${found.name}@${found.version} into ${directory}.`,
      ]);
    });
}
