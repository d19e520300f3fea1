import { resolve } from "node:path";
import { mergeAdapter } from "@drydock/engine";
import { exitCodes } from "@drydock/kit";
import { translateDiskError } from "../disk-error.ts";
import { findModel } from "../engine/find-model.ts";
import { parseArguments } from "./arguments.ts";

const usage = "merge DIR --adapter DIR --out DIR [--undo]";

/**
 * `merge`: a model with an adapter made part of its weights, or with `--undo` taken out again. What was written goes to stdout as one
 * line of JSON.
 */
export async function mergeCommand(values: readonly string[]): Promise<number> {
  const options = { adapter: { type: "string" }, out: { type: "string" }, undo: { type: "boolean" } } as const;
  const given = parseArguments(usage, values, options, 1);
  const adapterDirectory = resolve(given.required("adapter"));
  const out = resolve(given.required("out"));
  // A merged model is no longer the base that the adapter's card names.
  const base = given.flag("undo") ? undefined : adapterDirectory;
  const { directory } = await findModel(resolve(given.positionals[0] ?? ""), base);
  try {
    const merged = await mergeAdapter({ directory, adapterDirectory, out, takesOut: given.flag("undo") });
    process.stdout.write(`${JSON.stringify({ out, ...merged })}\n`);
    return exitCodes.done;
  } catch (error) {
    throw translateDiskError(out, error);
  }
}
