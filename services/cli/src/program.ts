import { Command, CommanderError } from "commander";
import { addCatalogueCommand } from "./commands/catalogue.ts";
import { addClusterCommands } from "./commands/cluster.ts";
import { addDatasetCommands } from "./commands/dataset.ts";
import { addDoctorCommand } from "./commands/doctor.ts";
import { addTrainCommand } from "./commands/engine.ts";
import { addEvaluateCommands } from "./commands/evaluate.ts";
import { addModelCommands } from "./commands/model.ts";
import { addPipelineCommands } from "./commands/pipeline.ts";
import { addWebhookCommands } from "./commands/webhook.ts";
import { addPlanCommand } from "./commands/plan.ts";
import { addPredictCommand } from "./commands/predict.ts";
import { addRunCommands } from "./commands/run.ts";
import { addSweepCommands } from "./commands/sweep.ts";
import { addUpCommand } from "./commands/up.ts";
import { cliExitCodes, exitCodeTable } from "./exit-codes.ts";
import { reportError } from "./output/report-error.ts";

/** The whole command line. */
export function createProgram(): Command {
  const program = new Command("drydock")
    .description("Fine-tune vision-language models on your own machines.")
    .version("0.1.0")
    .option("--json", "answer with JSON")
    .option("--url <url>", "server (or DRYDOCK_URL; else what drydock up wrote)")
    .option("--key <key>", "API key (or DRYDOCK_API_KEY)")
    .option("--state <dir>", "state folder (or DRYDOCK_STATE; default .drydock)")
    .addHelpText(
      "after",
      `\nExit codes:\n${exitCodeTable.map(([code, meaning]) => `  ${String(code).padStart(3)}  ${meaning}`).join("\n")}`,
    );
  addUpCommand(program);
  addDatasetCommands(program);
  addPlanCommand(program);
  addRunCommands(program);
  addSweepCommands(program);
  addPipelineCommands(program);
  addWebhookCommands(program);
  addEvaluateCommands(program);
  addModelCommands(program);
  addPredictCommand(program);
  addTrainCommand(program);
  addCatalogueCommand(program);
  addClusterCommands(program);
  addDoctorCommand(program);
  for (const command of everyCommand(program))
    command.exitOverride().showHelpAfterError(false).showSuggestionAfterError(true).allowExcessArguments(false);
  return program;
}

/** Runs one command line; answers the exit code. No error leaves it. */
export async function runProgram(values: readonly string[]): Promise<number> {
  const isJson = values.includes("--json");
  try {
    await createProgram().parseAsync([...values], { from: "user" });
    return typeof process.exitCode === "number" ? process.exitCode : cliExitCodes.done;
  } catch (error) {
    // Commander has said its sentence on stderr already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? cliExitCodes.done : cliExitCodes.usage;
    return reportError(error, isJson, (text) => process.stderr.write(text));
  }
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}
