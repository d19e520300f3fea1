import { InvalidError } from "@drydock/kit";
import type { Command } from "commander";
import { runWorker } from "../engine/worker-process.ts";
import { contextOf } from "./context.ts";

/** `drydock train`: the worker's own loop, without a server. */
export function addTrainCommand(program: Command): void {
  program
    .command("train")
    .description("train here, without a server: the worker's own loop on a local model folder")
    .requiredOption("--config <file>", "run spec (YAML or JSON) whose model.uri is a folder")
    .requiredOption("--data <file>", "OpenAI-messages JSONL; the answers are the assistant messages")
    .requiredOption("--out <dir>", "gets checkpoints, steps.jsonl and the finished model")
    .option("--adapter <dir>", "start from this PEFT adapter instead of a fresh one")
    .option("--resume", "go on from the newest checkpoint in --out")
    .action(async function (
      this: Command,
      {
        config,
        data,
        out,
        adapter,
        resume,
      }: { config: string; data: string; out: string; adapter?: string; resume?: boolean },
    ) {
      const { output } = contextOf(this);
      const reader = trainingLines(
        output.isJson,
        (text, isMilestone) => output.status(text, isMilestone),
        (text) => output.note(text),
      );
      const values = [
        "train",
        "--config",
        config,
        "--data",
        data,
        "--out",
        out,
        ...(adapter === undefined ? [] : ["--adapter", adapter]),
        ...(resume === true ? ["--resume"] : []),
      ];
      const { exitCode } = await runWorker({ arguments: values, onLog: reader });
      if (exitCode === 0)
        output.answer({ out }, () => [`Trained. Checkpoints, steps.jsonl and the model are in ${out}.`]);
      process.exitCode = exitCode;
    });
}

/** `drydock model logits`: the numbers of one forward pass, for comparing with another implementation. */
export function addLogitsCommand(model: Command): void {
  model
    .command("logits")
    .argument("<dir>", "model folder, Hugging Face layout")
    .description("write input_ids and logits of a conversation, to compare with another implementation")
    .requiredOption("--messages <file>", 'OpenAI messages as JSON; pictures are {"type":"image","image":"path"}')
    .requiredOption("--out <file>", "safetensors file: input_ids [T] int64, logits [T,V] float32")
    .option("--adapter <dir>", "PEFT adapter folder")
    .action(async function (
      this: Command,
      directory: string,
      { messages, out, adapter }: { messages: string; out: string; adapter?: string },
    ) {
      const { output } = contextOf(this);
      if (!out.endsWith(".safetensors"))
        throw new InvalidError("usage", `--out must end in .safetensors, not "${out}"`);
      const values = [
        "logits",
        directory,
        "--messages",
        messages,
        "--out",
        out,
        ...(adapter === undefined ? [] : ["--adapter", adapter]),
      ];
      const { exitCode } = await runWorker({ arguments: values });
      if (exitCode === 0) output.note(`Wrote ${out}.`);
      process.exitCode = exitCode;
    });
}

interface WorkerLogLine {
  readonly level?: number;
  readonly msg?: string;
  readonly step?: number;
  readonly loss?: number;
  readonly learningRate?: number;
  readonly tokensPerSecond?: number;
  readonly scores?: Readonly<Record<string, number>>;
  readonly phase?: string;
}

/** Reads the worker's JSON log and tells people what matters; with `--json` the log is passed on as it is. */
function trainingLines(
  isJson: boolean,
  status: (text: string, isMilestone: boolean) => void,
  note: (text: string) => void,
): (line: string) => void {
  return (line) => {
    if (isJson) {
      process.stderr.write(`${line}\n`);
      return;
    }
    const entry = parseLog(line);
    if (entry === null) note(line);
    else if (entry.step !== undefined && entry.loss !== undefined) {
      const text = `step ${entry.step}  loss ${entry.loss.toFixed(4)}  learning rate ${entry.learningRate?.toExponential(2) ?? "?"}  ${entry.tokensPerSecond ?? "?"} tokens/s`;
      status(text, entry.step === 1 || entry.step % 10 === 0);
    } else if (entry.scores !== undefined) note(`${entry.phase ?? ""} evaluation: ${JSON.stringify(entry.scores)}`);
    else if ((entry.level ?? 30) >= 30) note(entry.msg ?? line);
  };
}

function parseLog(line: string): WorkerLogLine | null {
  try {
    return JSON.parse(line) as WorkerLogLine;
  } catch {
    return null; // A plain line: an error message for people.
  }
}
