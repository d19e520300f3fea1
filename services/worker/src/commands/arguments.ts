import { resolve } from "node:path";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { InvalidError, messageOf } from "@drydock/kit";

/** Options and positional arguments of a command, checked. */
export interface CommandArguments {
  text(name: string): string | undefined;
  required(name: string): string;
  number(name: string): number | undefined;
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
    number: (name) => {
      const value = text(name);
      if (value === undefined) return undefined;
      const number = Number(value);
      return Number.isFinite(number) && value.trim() !== "" ? number : refuse(`--${name} "${value}" is not a number`);
    },
    path: (name) => {
      const value = text(name);
      return value === undefined ? undefined : resolve(value);
    },
    flag: (name) => parsed.values[name] === true,
    positionals: parsed.positionals,
  };
}
