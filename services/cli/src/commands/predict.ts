import { InvalidError } from "@drydock/kit";
import type { Grounding } from "@drydock/spec";
import type { Command } from "commander";
import { z } from "zod";
import { runWorker } from "../engine/worker-process.ts";
import { drawBoxes } from "../predict/draw-boxes.ts";
import { findLocalModel } from "../predict/find-model.ts";
import { contextOf } from "./context.ts";

interface PredictFlags {
  readonly image: string;
  readonly prompt: string;
  readonly adapter?: string;
  readonly systemPrompt?: string;
  readonly draw?: string;
  readonly maxNewTokens?: string;
  readonly temperature?: string;
  readonly topP?: string;
  readonly topK?: string;
  readonly repetitionPenalty?: string;
  readonly seed?: string;
}

/** The worker's answer with `--json`. Boxes are pixels of the picture. */
const Prediction = z.object({
  text: z.string(),
  boxes: z.array(z.object({ phrase: z.string(), box: z.array(z.number()).length(4) })),
  image: z.object({ fileName: z.string(), width: z.number(), height: z.number() }),
  warnings: z.array(z.string()),
  tokens: z.number(),
  seconds: z.number(),
});
type Prediction = z.infer<typeof Prediction>;

/** Options handed to the worker as they are; it checks them. */
const passedOn = ["systemPrompt", "maxNewTokens", "temperature", "topP", "topK", "repetitionPenalty", "seed"] as const;

/** `drydock predict`: ask a model about a picture. */
export function addPredictCommand(program: Command): void {
  program
    .command("predict")
    .argument("<model>", "name@version or name@alias on the server, a model that ships with Drydock, or a folder")
    .description("ask a model about a picture: text, and the boxes in it")
    .requiredOption("--image <file>", "the picture")
    .requiredOption("--prompt <text>", "the question")
    .option("--adapter <dir>", "PEFT adapter folder to put on the model")
    .option("--system-prompt <text>", "instead of the one that the model was trained with")
    .option("--draw <file.png>", "write the picture with its boxes")
    .option("--max-new-tokens <number>", "length of the answer at most")
    .option("--temperature <number>", "0 or none: always the likeliest word")
    .option("--top-p <number>", "with a temperature: only the likeliest words that sum up to this")
    .option("--top-k <number>", "with a temperature: only so many likeliest words")
    .option("--repetition-penalty <number>", "above 1: repeat less")
    .option("--seed <number>", "with a temperature: same seed, same answer")
    .action(async function (this: Command, reference: string, flags: PredictFlags) {
      const { client, output } = contextOf(this);
      if (flags.draw !== undefined && !/\.png$/i.test(flags.draw))
        throw new InvalidError("usage", `--draw writes a PNG: end its name in .png, not "${flags.draw}"`);
      const { directory, adapterDirectory } = await findLocalModel(reference, flags.adapter, client);
      const options = passedOn.flatMap((name) => (flags[name] === undefined ? [] : `--${kebab(name)}=${flags[name]}`));
      const adapter = adapterDirectory === null ? [] : [`--adapter=${adapterDirectory}`];
      const lines: string[] = [];
      // With "=", so that a value that begins with a dash is a value.
      const asked = [`--image=${flags.image}`, `--prompt=${flags.prompt}`];
      const values = ["predict", directory, ...asked, ...adapter, ...options, "--json"];
      const { exitCode } = await runWorker({ arguments: values, onLine: (line) => lines.push(line) });
      process.exitCode = exitCode;
      if (exitCode !== 0) return;
      const prediction = Prediction.parse(JSON.parse(lines.at(-1) ?? ""));
      if (flags.draw !== undefined) await drawBoxes(flags.image, groundingsOf(prediction), flags.draw);
      output.answer({ ...prediction, ...(flags.draw !== undefined && { drawing: flags.draw }) }, () => [
        prediction.text,
        ...prediction.boxes.map(
          ({ phrase, box }) => `  ${phrase}: left ${box[0]}, top ${box[1]}, right ${box[2]}, bottom ${box[3]}`,
        ),
        ...(flags.draw === undefined ? [] : [`Drawn in ${flags.draw}.`]),
      ]);
    });
}

function groundingsOf({ boxes, image: { width, height } }: Prediction): Grounding[] {
  const phrases = [...new Set(boxes.map(({ phrase }) => phrase))];
  return phrases.map((phrase) => ({
    phrase,
    boxes: boxes
      .filter((item) => item.phrase === phrase)
      .map(({ box: [left = 0, top = 0, right = 0, bottom = 0] }) => [
        left / width,
        top / height,
        right / width,
        bottom / height,
      ]),
  }));
}

function kebab(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
