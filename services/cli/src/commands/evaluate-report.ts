import { writeFile } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import type { Command } from "commander";
import { reportFormats, type ReportFormat } from "../client/evaluation-client.ts";
import { contextOf, oneOf, wholeNumber } from "./context.ts";

interface ReportFlags {
  readonly format: ReportFormat;
  readonly out?: string;
  readonly rows?: number;
  readonly order?: "file" | "worst";
}

const orders = ["file", "worst"] as const;

/** `drydock evaluate report`: an evaluation or a suite as a file. */
export function addReportCommand(evaluate: Command): void {
  evaluate
    .command("report")
    .argument("<evaluation>", "id of an evaluation or of a suite")
    .option("--format <format>", `one of ${reportFormats.join(", ")}`, oneOf("--format", reportFormats), "html")
    .option("--out <file>", "where to write it; - for stdout; default: <id>.<format> in this folder")
    .option("--rows <number>", "rows that the HTML shows, at most 500", wholeNumber("--rows", 0))
    .option("--order <order>", "file, or worst: lowest scores first", oneOf("--order", orders))
    .description("scores with intervals, slices, and rows with pictures: HTML, CSV or JSON")
    .action(async function (this: Command, id: string, { format, out, rows, order }: ReportFlags) {
      const isHtmlOfRows = format === "html" && !id.startsWith("suite_");
      if (!isHtmlOfRows && (rows !== undefined || order !== undefined))
        throw new InvalidError("usage", "--rows and --order are for the HTML report of an evaluation");
      const { evaluation, output } = contextOf(this);
      const text = await evaluation().report(id, format, isHtmlOfRows ? { rows, order } : {});
      if (out === "-") return void process.stdout.write(text);
      const path = out ?? `${id}.${format}`;
      await write(path, text);
      output.answer({ path }, () => [`Wrote ${path}.`]);
    });
}

async function write(path: string, text: string): Promise<void> {
  try {
    await writeFile(path, text);
  } catch (cause) {
    throw new InvalidError("unwritable_file", `${path} cannot be written: is there such a folder, and room?`, {
      cause,
    });
  }
}
