import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { writeSafetensors } from "@drydock/engine";
import { exitCodes } from "@drydock/kit";
import { openForAnswers } from "../engine/open-for-answers.ts";
import { translateDiskError } from "../disk-error.ts";
import { localPathOf, readConversation } from "../rows/read-messages.ts";
import { parseArguments } from "./arguments.ts";

/**
 * `logits`: the model's logits at every token of a conversation, for comparison with other implementations. A conversation
 * whose last turn is the user's gets the generation prompt behind it; one that ends with an answer does not. No system
 * prompt is added.
 *
 * Out: safetensors with `input_ids` `[T]` int64 (visual tokens written out) and `logits` `[T, V]` float32.
 */
export async function logitsCommand(values: readonly string[]): Promise<number> {
  const given = parseArguments(
    "logits DIR --messages FILE --out FILE.safetensors [--adapter DIR] [--max-pixels N] [--min-pixels N]",
    values,
    {
      messages: { type: "string" },
      out: { type: "string" },
      adapter: { type: "string" },
      "max-pixels": { type: "string" },
      "min-pixels": { type: "string" },
    },
    1,
  );
  const messages = resolve(given.required("messages"));
  const out = resolve(given.required("out"));
  const record = await readConversation(messages, { scratchDirectory: join(tmpdir(), "drydock-pictures") });
  const { generator, encoder } = await openForAnswers({
    directory: resolve(given.positionals[0] ?? ""),
    adapterDirectory: given.path("adapter"),
    image: { minPixels: given.number("min-pixels"), maxPixels: given.number("max-pixels") },
    systemPrompt: "",
    pathOf: localPathOf,
  });
  try {
    const batch = await encoder.conversationBatch(record);
    const logits = await generator.logits(batch);
    const tokens = batch.inputIds.length;
    try {
      await writeSafetensors(out, [
        { name: "input_ids", shape: [tokens], data: batch.inputIds },
        { name: "logits", shape: [tokens, logits.length / tokens], data: logits },
      ]);
    } catch (error) {
      throw translateDiskError(out, error);
    }
    return exitCodes.done;
  } finally {
    await generator.close();
  }
}
