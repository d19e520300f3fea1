import { InvalidError, messageOf } from "@drydock/kit";
import { wholeForward, type Model } from "../models/model.ts";
import { decoderPath } from "../models/parts/text-decoder.ts";
import type { LoraPlacement, ModuleAdapter, Variables } from "../models/variables.ts";
import type { LoraOptions } from "./lora-options.ts";

const field = "training.lora";

/**
 * Where adapters go and what is trained beside them, as PEFT chooses it (`check_target_module_exists`, `modules_to_save`).
 * @throws InvalidError for a target that no layer has, or a model that takes no adapter
 */
export function placeLora(model: Model, options: LoraOptions): LoraPlacement {
  if (model.loraRefusal !== null) throw new InvalidError("no_lora", model.loraRefusal);
  const { variables } = wholeForward(model);
  const paths = chosenPaths([...variables.linears.keys()], options);
  if (options.useDora) for (const path of paths) refuseDora(variables, path);
  return {
    dropout: options.dropout,
    modules: new Map(paths.map((path) => [path, adapterOf(path, options)])),
    usesDora: options.useDora ?? false,
    whole: wholeWeights(variables, paths, options),
  };
}

function chosenPaths(linears: readonly string[], options: LoraOptions): string[] {
  const { targets, includeVision = false, exclude = [] } = options;
  const inReach = includeVision ? linears : linears.filter((path) => path.startsWith(`${decoderPath}.`));
  const isExcluded = matcher(exclude, `${field}.exclude`);
  const kept = (paths: readonly string[]): string[] => paths.filter((path) => !isExcluded(path));
  if (targets === "all-linear") return kept(inReach);
  if (typeof targets === "string") {
    const found = linears.filter(matcher(targets, `${field}.targets`));
    if (found.length === 0)
      throw unknownTarget(
        `no linear layer matches the regular expression "${targets}"; layers are named like ${linears[0]}`,
      );
    return kept(found);
  }
  const found = new Set<string>();
  for (const target of targets) {
    // A whole path is meant, wherever it lies; an end of one is looked for where adapters go.
    const matches = linears.includes(target) ? [target] : inReach.filter((path) => path.endsWith(`.${target}`));
    if (matches.length === 0) throw unknownTarget(missingTarget(target, linears, inReach));
    for (const path of matches) found.add(path);
  }
  return kept(linears.filter((path) => found.has(path)));
}

function missingTarget(target: string, linears: readonly string[], inReach: readonly string[]): string {
  const has = [...new Set(inReach.map(leafOf))].join(", ");
  const elsewhere = linears.some((path) => path.endsWith(`.${target}`))
    ? `; the vision part has one: set ${field}.includeVision`
    : "";
  const where = linears.length === inReach.length ? "the model" : "the language model";
  return `${where} has no linear layer "${target}"; it has ${has}${elsewhere}`;
}

function unknownTarget(problem: string): InvalidError {
  return new InvalidError("unknown_lora_target", `${field}.targets: ${problem}`);
}

/** Whether a path is one of the names or ends in one, or, given a text, matches it as a whole. */
function matcher(names: string | readonly string[], place: string): (path: string) => boolean {
  if (typeof names !== "string") return (path) => names.some((name) => path === name || path.endsWith(`.${name}`));
  const expression = expressionOf(names, place);
  return (path) => expression.test(path);
}

function expressionOf(text: string, place: string): RegExp {
  try {
    return new RegExp(`^(?:${text})$`);
  } catch (error) {
    throw new InvalidError("bad_lora_target", `${place}: "${text}" is no regular expression: ${messageOf(error)}`);
  }
}

function adapterOf(path: string, options: LoraOptions): ModuleAdapter {
  const rank = valueFor(path, options.rankPattern, `${field}.rankPattern`) ?? options.rank;
  const alpha = valueFor(path, options.alphaPattern, `${field}.alphaPattern`) ?? options.alpha;
  return { rank, scale: scaleOf(alpha, rank, options.useRslora ?? false) };
}

/** What multiplies B·A. */
export function scaleOf(alpha: number, rank: number, useRslora: boolean): number {
  return useRslora ? alpha / Math.sqrt(rank) : alpha / rank;
}

/** The value whose key matches the path or its end behind a dot, as PEFT's `get_pattern_key`. */
export function valueFor(
  path: string,
  pattern: Readonly<Record<string, number>> | null | undefined,
  place: string,
): number | undefined {
  return Object.entries(pattern ?? {}).find(([key]) => expressionOf(`(?:.*\\.)?(?:${key})`, place).test(path))?.[1];
}

/** Weights that are trained whole: those of modules to save, and biases. */
function wholeWeights(variables: Variables, adapted: readonly string[], options: LoraOptions): ReadonlySet<string> {
  const names = [...variables.shapes.keys()];
  const whole = new Set<string>();
  for (const module of options.modulesToSave ?? []) {
    const found = names.filter((name) => isInside(name, module));
    if (found.length === 0)
      throw new InvalidError(
        "unknown_module_to_save",
        `${field}.modulesToSave: the model has no weights of a module "${module}"${module.endsWith("lm_head") ? "; its output layer is its embedding, which embed_tokens names" : ""}`,
      );
    for (const name of found) whole.add(name);
  }
  const inside = [...adapted].find((path) => whole.has(`${path}.weight`));
  if (inside !== undefined)
    throw new InvalidError(
      "module_adapted_and_saved",
      `${field}: ${inside} would be trained whole (modulesToSave) and by an adapter (targets); name it in one of them, or in exclude`,
    );
  const { bias = "none" } = options;
  for (const name of names)
    if (
      name.endsWith(".bias") &&
      (bias === "all" || (bias === "lora_only" && adapted.includes(name.slice(0, -".bias".length))))
    )
      whole.add(name);
  return whole;
}

/** Whether a weight belongs to a module of this path, or of one that ends in it behind a dot, or to a part of that module. */
function isInside(name: string, module: string): boolean {
  return name.startsWith(`${module}.`) || name.includes(`.${module}.`);
}

function refuseDora(variables: Variables, path: string): void {
  if (!variables.shapes.has(`${path}.weight`))
    throw new InvalidError(
      "no_dora",
      `${field}.useDora: ${path} is stored in few bits, and the lengths of its rows would be those of rounded values; use plain LoRA on quantized weights`,
    );
}

export function leafOf(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}
