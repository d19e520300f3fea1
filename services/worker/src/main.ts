import { exitCodes, createLogger } from "@drydock/kit";
import { InvalidError } from "@drydock/kit";
import { failureOf } from "./failure.ts";

type Command = (values: readonly string[]) => Promise<number>;

/** Loaded when asked for, so that each command starts as fast as it can. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  rank: async () => (await import("./commands/rank-command.ts")).rankCommand,
  train: async () => (await import("./commands/train-command.ts")).trainCommand,
  evaluate: async () => (await import("./commands/evaluate-command.ts")).evaluateCommand,
  logits: async () => (await import("./commands/logits-command.ts")).logitsCommand,
  quantize: async () => (await import("./commands/quantize-command.ts")).quantizeCommand,
  merge: async () => (await import("./commands/merge-command.ts")).mergeCommand,
  export: async () => (await import("./commands/export-command.ts")).exportCommand,
  predict: async () => (await import("./commands/predict-command.ts")).predictCommand,
};

const [name = "", ...values] = process.argv.slice(2);
process.exit(await run(name, values));

async function run(commandName: string, commandValues: readonly string[]): Promise<number> {
  try {
    const load = commands[commandName];
    if (load === undefined) {
      throw new InvalidError(
        "invalid_arguments",
        `unknown command "${commandName}": use one of ${Object.keys(commands).join(", ")}`,
      );
    }
    const command = await load();
    return await command(commandValues);
  } catch (error) {
    const failure = failureOf(error);
    if (!failure.isExpected) createLogger("worker").error({ err: error }, "unexpected error");
    process.stderr.write(`${failure.message}\n`);
    return failure.exitCode === exitCodes.done ? 1 : failure.exitCode;
  }
}
