import { resolve } from "node:path";
import { parseGroundings } from "@drydock/data";
import { StreamingDecoder, type GenerationOptions } from "@drydock/engine";
import { exitCodes, InvalidError } from "@drydock/kit";
import type { DataRecord, Grounding } from "@drydock/spec";
import { findModel } from "../engine/find-model.ts";
import { openForAnswers, type AnswerModel } from "../engine/open-for-answers.ts";
import { chooseImageSettings, choosePrompt } from "../publish/model-card.ts";
import { describeImage } from "../rows/describe-image.ts";
import { localPathOf } from "../rows/read-messages.ts";
import { parseArguments, type CommandArguments } from "./arguments.ts";

const usage =
  "predict DIR --image FILE --prompt TEXT [--adapter DIR] [--system-prompt TEXT] [--max-new-tokens N] [--temperature N] [--top-p N] [--top-k N] [--repetition-penalty N] [--seed N] [--max-pixels N] [--min-pixels N] [--threads N] [--json]";
const textOptions = [
  "image",
  "prompt",
  "adapter",
  "system-prompt",
  "max-new-tokens",
  "temperature",
  "top-p",
  "top-k",
  "repetition-penalty",
  "seed",
  "max-pixels",
  "min-pixels",
  "threads",
];

/** A box in pixels of the original picture: left, top, right, bottom. */
interface PixelBox {
  readonly phrase: string;
  readonly box: readonly number[];
}

/**
 * `predict`: a picture and a prompt give text, shown as it comes, and the boxes in it. The system prompt and the picture
 * settings that the model was trained with are applied; differing ones are warned about.
 */
export async function predictCommand(values: readonly string[]): Promise<number> {
  const options = Object.fromEntries(textOptions.map((name) => [name, { type: "string" as const }]));
  const given = parseArguments(usage, values, { ...options, json: { type: "boolean" } }, 1);
  const found = await findModel(resolve(given.positionals[0] ?? ""), given.path("adapter"));
  if (given.required("prompt").trim() === "")
    throw new InvalidError("empty_prompt", "--prompt is empty: write what to ask about the picture");
  const generation = generationOf(given);
  const prompt = choosePrompt(found.card, given.text("system-prompt"));
  const picture = chooseImageSettings(found.card, {
    minPixels: given.number("min-pixels"),
    maxPixels: given.number("max-pixels"),
  });
  const warnings = [...prompt.warnings, ...picture.warnings];
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);

  const image = await describeImage(resolve(given.required("image")), given.required("image"), "--image");
  const record = questionAbout(image, given.required("prompt"));
  const model = await openForAnswers({
    ...found,
    image: picture.image,
    systemPrompt: prompt.systemPrompt,
    threads: given.number("threads"),
    pathOf: localPathOf,
  });
  const startedMs = performance.now();
  try {
    const { text, tokens } = await generate(model, record, generation, (piece) => {
      if (!given.flag("json")) process.stdout.write(piece);
    });
    const { groundings } = parseGroundings(text, model.encoder.boxSpaceOf(record));
    const boxes = groundings.flatMap((grounding) => toPixels(grounding, image));
    if (given.flag("json")) {
      const answer = {
        text,
        boxes,
        image: { fileName: image.fileName, width: image.width, height: image.height },
        warnings,
        tokens,
        seconds: (performance.now() - startedMs) / 1000,
      };
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    } else {
      process.stdout.write("\n");
      for (const { phrase, box } of boxes)
        process.stdout.write(`${phrase}: left ${box[0]}, top ${box[1]}, right ${box[2]}, bottom ${box[3]}\n`);
    }
    return exitCodes.done;
  } finally {
    await model.generator.close();
  }
}

function questionAbout(image: DataRecord["images"][number], prompt: string): DataRecord {
  const content = prompt.includes("<image>") ? prompt : `<image>${prompt}`;
  return {
    rowId: "question",
    split: "validation",
    task: "chat",
    source: { file: image.fileName, row: 1 },
    images: [image],
    messages: [{ role: "user", content }],
  };
}

function generationOf(given: CommandArguments): Omit<GenerationOptions, "stopTokenIds"> {
  const sampling = {
    temperature: given.number("temperature", { minimum: 0 }),
    topP: given.number("top-p", { minimum: 0, maximum: 1 }),
    topK: given.number("top-k", { minimum: 1, isWhole: true }),
    repetitionPenalty: given.number("repetition-penalty", { minimum: 0.1 }),
    seed: given.number("seed", { minimum: 0, isWhole: true }),
  };
  const chosen = Object.entries(sampling).filter(([, value]) => value !== undefined);
  const maxNewTokens = given.number("max-new-tokens", { minimum: 1, isWhole: true }) ?? 256;
  return { maxNewTokens, ...Object.fromEntries(chosen) };
}

async function generate(
  { generator, encoder }: AnswerModel,
  record: DataRecord,
  options: Omit<GenerationOptions, "stopTokenIds">,
  show: (piece: string) => void,
): Promise<{ text: string; tokens: number }> {
  const batch = await encoder.questionBatch([record], options.maxNewTokens);
  const decoder = new StreamingDecoder(encoder.tokenizer);
  let text = "";
  let tokens = 0;
  for await (const [token] of generator.tokens(batch, { ...options, stopTokenIds: encoder.stopTokenIds })) {
    if (token === null || token === undefined) continue;
    const piece = decoder.push(token);
    text += piece;
    tokens += 1;
    show(piece);
  }
  const rest = decoder.finish();
  show(rest);
  return { text: text + rest, tokens };
}

/** Boxes of a grounding in whole pixels of the picture. */
function toPixels(
  { phrase, boxes }: Grounding,
  { width, height }: { readonly width: number; readonly height: number },
): PixelBox[] {
  return boxes.map(([left, top, right, bottom]) => ({
    phrase,
    box: [left * width, top * height, right * width, bottom * height].map(Math.round),
  }));
}
