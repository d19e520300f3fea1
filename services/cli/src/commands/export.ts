import type { Command } from "commander";
import { z } from "zod";
import { runWorker } from "../engine/worker-process.ts";
import { table } from "../output/table.ts";
import { contextOf } from "./context.ts";

const Value = z.object({ name: z.string(), shape: z.array(z.union([z.string(), z.number()])), dtype: z.string() });
const Exported = z.object({
  out: z.string(),
  graphs: z.array(z.object({ name: z.string(), inputs: z.array(Value), outputs: z.array(Value) })),
});

/** `drydock model export`: graphs that plain ONNX Runtime runs. */
export function addExportCommand(model: Command): void {
  model
    .command("export")
    .argument("<dir>", "model folder, Hugging Face layout; quantized ones, too")
    .description("write ONNX graphs that plain ONNX Runtime runs, with the weights as external data")
    .requiredOption("--to <format>", "onnx")
    .requiredOption("--out <dir>", "a new folder")
    .option("--messages <file>", "conversation for the examples in the folder, OpenAI messages as JSON")
    .action(async function (this: Command, directory: string, flags: { to: string; out: string; messages?: string }) {
      const { output } = contextOf(this);
      const lines: string[] = [];
      const values = [directory, `--to=${flags.to}`, `--out=${flags.out}`];
      if (flags.messages !== undefined) values.push(`--messages=${flags.messages}`);
      const { exitCode } = await runWorker({ arguments: ["export", ...values], onLine: (line) => lines.push(line) });
      process.exitCode = exitCode;
      if (exitCode !== 0) return;
      const exported = Exported.parse(JSON.parse(lines.at(-1) ?? ""));
      output.answer(exported, () => [
        ...table(
          ["graph", "inputs", "outputs"],
          exported.graphs.map(({ name, inputs, outputs }) => [`${name}.onnx`, inputs.length, outputs.length]),
        ),
        `Written to ${exported.out}; README.md there says what goes in and comes out.`,
      ]);
    });
}
