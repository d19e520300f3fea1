import type { RunSpec } from "../contract/run-spec.ts";

/** What of an adapter's settings may differ from the checkpoint that it begins from: it says how to train, not what is trained. */
const freeLoraSettings: ReadonlySet<string> = new Set(["dropout", "initialization"]);

/** Whether runs that differ in a field of their specs train different weights, so that one checkpoint cannot serve them all. */
export function changesWeights(path: string): boolean {
  const [first, second, field] = path.split(".");
  if (first !== "training") return first === "model" || first === "mode";
  if (second !== undefined && second !== "lora") return false;
  return field === undefined || !freeLoraSettings.has(field);
}

/**
 * Why the weights of a run's checkpoint cannot be the first ones of another run, at the field that differs; null when they can.
 *
 * @param source  spec of the run that wrote the checkpoint
 */
export function warmStartMismatch(
  spec: Pick<RunSpec, "model" | "mode" | "training">,
  source: Pick<RunSpec, "model" | "mode" | "training">,
): { readonly path: string; readonly message: string } | null {
  const refuse = (path: string, theirs: unknown, ours: unknown) => ({
    path,
    message: `the checkpoint is of ${path} ${textOf(theirs)}, this run's is ${textOf(ours)}: make them equal, or begin without warmStart`,
  });
  if (!isSame(spec.model, source.model)) return refuse("model", source.model, spec.model);
  if (spec.mode !== source.mode) return refuse("mode", source.mode, spec.mode);
  if (spec.mode === "full") return null;
  const [ours, theirs] = [spec.training.lora, source.training.lora].map((lora) => new Map(Object.entries(lora)));
  const fields = new Set([...(ours?.keys() ?? []), ...(theirs?.keys() ?? [])]);
  const different = [...fields].find(
    (field) => !freeLoraSettings.has(field) && !isSame(ours?.get(field), theirs?.get(field)),
  );
  return different === undefined
    ? null
    : refuse(`training.lora.${different}`, theirs?.get(different), ours?.get(different));
}

function isSame(left: unknown, right: unknown): boolean {
  return textOf(left) === textOf(right);
}

function textOf(value: unknown): string {
  return value === undefined ? "not set" : JSON.stringify(value);
}
