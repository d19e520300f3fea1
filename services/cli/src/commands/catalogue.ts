import type { Command } from "commander";
import { formatBytes } from "../output/quantities.ts";
import { table } from "../output/table.ts";
import { contextOf } from "./context.ts";

/** `drydock catalogue`: base models and accelerators. */
export function addCatalogueCommand(program: Command): void {
  program
    .command("catalogue")
    .description("base models that can be fine-tuned or planned for, and accelerators")
    .action(async function (this: Command) {
      const { client, output } = contextOf(this);
      const [models, accelerators] = await Promise.all([client().listCatalogueModels(), client().listAccelerators()]);
      output.answer({ models, accelerators }, () => [
        ...table(
          ["model", "parameters", "context", "modes", "license"],
          models.map((item) => [
            item.name,
            `${(item.parameters / 1e9).toFixed(item.parameters < 1e8 ? 4 : 1)} B`,
            item.contextWindow,
            item.modes.join(", "),
            item.license,
          ]),
        ),
        "",
        ...table(
          ["accelerator", "memory", "here"],
          accelerators.map((item) => [
            item.name,
            formatBytes(item.memoryBytes),
            item.isHere ? (item.maxDevices === null ? "yes" : `yes, ${item.maxDevices}`) : "no",
          ]),
        ),
      ]);
    });
}
