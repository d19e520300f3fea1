import { readFile } from "node:fs/promises";
import { InvalidError, messageOf } from "@drydock/kit";
import type { Command } from "commander";
import { formatScores } from "../output/quantities.ts";
import { fields } from "../output/table.ts";
import { contextOf, wholeNumber } from "./context.ts";

const batchSize = 1000;

/** `drydock model observe|live`: what a model in use answers. */
export function addLiveCommands(model: Command): void {
  model
    .command("observe")
    .argument("<name>", "name of the model")
    .argument("<file>", "JSONL of observations: key, time, answer, truth, …")
    .option("--version <version>", "number or alias", "production")
    .description("report answers of a model in use")
    .action(async function (this: Command, name: string, file: string, { version }: { version: string }) {
      const { pipelines, output } = contextOf(this);
      const rows = await readRows(file);
      let received = 0;
      for (let start = 0; start < rows.length; start += batchSize) {
        const observations = rows.slice(start, start + batchSize);
        received += (await pipelines().observe(name, { version, observations })).received;
      }
      const answer = { rows: rows.length, received, repeated: rows.length - received };
      output.answer(answer, () => fields(answer));
    });
  model
    .command("live")
    .argument("<name>", "name of the model")
    .option("--version <version>", "number or alias", "production")
    .option("--hours <number>", "how far back", wholeNumber("--hours", 1), 24)
    .description("scores of what a model answered in use")
    .action(async function (this: Command, name: string, flags: { version: string; hours: number }) {
      const { pipelines, output } = contextOf(this);
      const live = await pipelines().live(name, { version: flags.version, windowSeconds: flags.hours * 3600 });
      output.answer(live, () =>
        fields({
          model: `${live.model}@${live.version}`,
          answers: `${live.observations} since ${live.since}, ${live.withTruth} with truth`,
          unreadable: `${live.unparsable.toFixed(1)} %`,
          empty: `${live.empty.toFixed(1)} %`,
          scores: formatScores(live.scores),
        }),
      );
    });
}

async function readRows(path: string): Promise<unknown[]> {
  const lines = (await readFile(path, "utf8")).split("\n");
  return lines.flatMap((line, index) => {
    if (line.trim() === "") return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch (cause) {
      throw new InvalidError("invalid_file", `${path}, line ${index + 1} is not JSON: ${messageOf(cause)}`, { cause });
    }
  });
}
