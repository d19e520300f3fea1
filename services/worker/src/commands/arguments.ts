import { resolve } from "node:path";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { InvalidError, messageOf } from "@drydock/kit";

/** Bounds are themselves allowed. */
export interface NumberRange {
  readonly minimum?: number;
  readonly maximum?: number;
  readonly isWhole?: boolean;
}

/** Options and positional arguments of a command, checked. */
export interface CommandArguments {
  text(name: string): string | undefined;
  required(name: string): string;
  /** @param allowed  what the number may be; anything finite when nothing is said */
  number(name: string, allowed?: NumberRange): number | undefined;
  /** An absolute path. */
  path(name: string): string | undefined;
  flag(name: string): boolean;
  readonly positionals: readonly string[];
}

/**
 * Parses a command's arguments.
 *
 * @param usage  shown with every mistake, e.g. `train --config FILE --data FILE.jsonl --out DIR [--resume]`
 * @param positionals  how many there must be
 * @throws InvalidError `invalid_arguments`
 */
export function parseArguments(
  usage: string,
  values: readonly string[],
  options: ParseArgsOptionsConfig,
  positionals = 0,
): CommandArguments {
  const refuse = (message: string): never => {
    throw new InvalidError("invalid_arguments", `${message}\nusage: ${usage}`);
  };
  const parsed = (() => {
    try {
      return parseArgs({ args: [...values], options, allowPositionals: positionals > 0, strict: true });
    } catch (error) {
      return refuse(messageOf(error));
    }
  })();
  if (parsed.positionals.length !== positionals)
    refuse(`${positionals} argument${positionals === 1 ? "" : "s"} expected, ${parsed.positionals.length} given`);
  const text = (name: string): string | undefined => {
    const value = parsed.values[name];
    return typeof value === "string" ? value : undefined;
  };
  return {
    text,
    required: (name) => text(name) ?? refuse(`--${name} is missing`),
    number: (name, allowed = {}) => {
      const value = text(name);
      if (value === undefined) return undefined;
      const number = Number(value);
      if (!Number.isFinite(number) || value.trim() === "") return refuse(`--${name} "${value}" is not a number`);
      return isWithin(number, allowed) ? number : refuse(`--${name} takes ${inWords(allowed)}, not ${value}`);
    },
    path: (name) => {
      const value = text(name);
      return value === undefined ? undefined : resolve(value);
    },
    flag: (name) => parsed.values[name] === true,
    positionals: parsed.positionals,
  };
}

function isWithin(number: number, { minimum = -Infinity, maximum = Infinity, isWhole = false }: NumberRange): boolean {
  return number >= minimum && number <= maximum && (!isWhole || Number.isSafeInteger(number));
}

/** E.g. "a whole number of at least 1". */
function inWords({ minimum, maximum, isWhole = false }: NumberRange): string {
  const lower = minimum === undefined ? [] : [`at least ${minimum}`];
  const upper = maximum === undefined ? [] : [`at most ${maximum}`];
  return `${isWhole ? "a whole number" : "a number"}${lower.length + upper.length === 0 ? "" : ` of ${[...lower, ...upper].join(" and ")}`}`;
}
