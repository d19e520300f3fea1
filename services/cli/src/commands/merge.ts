import type { Command } from "commander";
import { z } from "zod";
import { runWorker } from "../engine/worker-process.ts";
import { contextOf } from "./context.ts";

const Merged = z.object({ out: z.string(), layers: z.number(), whole: z.number() });

/** `drydock model merge`: an adapter as part of the weights. */
export function addMergeCommand(model: Command): void {
  model
    .command("merge")
    .argument("<dir>", "the base's folder, Hugging Face layout")
    .description("write a model in which an adapter is part of the weights, or with --undo is taken out again")
    .requiredOption("--adapter <dir>", "PEFT adapter of that base")
    .requiredOption("--out <dir>", "a new folder")
    .option("--undo", "the folder is a merged model: give the base back, up to rounding")
    .action(async function (this: Command, directory: string, flags: { adapter: string; out: string; undo?: boolean }) {
      const { output } = contextOf(this);
      const lines: string[] = [];
      const values = [directory, `--adapter=${flags.adapter}`, `--out=${flags.out}`, ...(flags.undo ? ["--undo"] : [])];
      const { exitCode } = await runWorker({ arguments: ["merge", ...values], onLine: (line) => lines.push(line) });
      process.exitCode = exitCode;
      if (exitCode !== 0) return;
      const merged = Merged.parse(JSON.parse(lines.at(-1) ?? ""));
      const what = `${merged.layers} layers${merged.whole > 0 ? ` and ${merged.whole} whole weights` : ""}`;
      output.answer(merged, () => [
        `${flags.undo ? "Taken out of" : "Merged into"} ${what}; written to ${merged.out}.`,
      ]);
    });
}
