import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { exportOnnx, openModelFolder } from "@drydock/engine";
import { InvalidError, exitCodes } from "@drydock/kit";
import { translateDiskError } from "../disk-error.ts";
import { findModel } from "../engine/find-model.ts";
import { RecordEncoder } from "../engine/record-encoder.ts";
import { chooseImageSettings } from "../publish/model-card.ts";
import { localPathOf, readConversation } from "../rows/read-messages.ts";
import { parseArguments } from "./arguments.ts";

const usage = "export DIR --to onnx --out DIR [--messages FILE]";

/**
 * `export`: a model as graphs that plain ONNX Runtime runs, see `exportOnnx`. The examples in the folder are of a conversation
 * when one is given, else of some tokens. What was written goes to stdout as one line of JSON.
 */
export async function exportCommand(values: readonly string[]): Promise<number> {
  const options = { to: { type: "string" }, out: { type: "string" }, messages: { type: "string" } } as const;
  const given = parseArguments(usage, values, options, 1);
  const to = given.required("to");
  if (to !== "onnx")
    throw new InvalidError(
      "invalid_arguments",
      `--to "${to}" is not known: models are exported to onnx\nusage: ${usage}`,
    );
  const out = resolve(given.required("out"));
  const { directory, card } = await findModel(resolve(given.positionals[0] ?? ""), undefined);
  const messages = given.path("messages");
  const prompt =
    messages === undefined ? undefined : await promptOf(directory, messages, chooseImageSettings(card, {}).image);
  try {
    const { graphs } = await exportOnnx(directory, out, prompt);
    process.stdout.write(`${JSON.stringify({ out, graphs })}\n`);
    return exitCodes.done;
  } catch (error) {
    throw translateDiskError(out, error);
  }
}

async function promptOf(
  directory: string,
  messages: string,
  image: ReturnType<typeof chooseImageSettings>["image"],
): ReturnType<RecordEncoder["conversationBatch"]> {
  const record = await readConversation(messages, { scratchDirectory: join(tmpdir(), "drydock-pictures") });
  const { model } = await openModelFolder(directory);
  const encoder = await RecordEncoder.open({ directory, model, image, systemPrompt: "", pathOf: localPathOf });
  return await encoder.conversationBatch(record);
}
