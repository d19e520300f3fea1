import { readFile } from "node:fs/promises";
import { InvalidError, messageOf } from "@drydock/kit";
import { RunSpec, type RunSpecInput } from "@drydock/spec";
import { parse } from "yaml";

/** Reads a run spec from a YAML or JSON file. @throws InvalidError naming every wrong field, before anything is sent */
export async function readRunSpec(path: string): Promise<RunSpecInput> {
  const value = await readYaml(path);
  const parsed = RunSpec.safeParse(value);
  if (parsed.success) return value as RunSpecInput;
  const details = parsed.error.issues.map((issue) => ({
    path: issue.path.join("."),
    code: issue.code,
    message: issue.message,
  }));
  const count = details.length === 1 ? "one field is" : `${details.length} fields are`;
  throw new InvalidError("invalid_run_spec", `${path}: ${count} wrong`, { details });
}

/** Reads a YAML or JSON file. @throws InvalidError `unreadable_file` or `invalid_file` with the line */
export async function readYaml(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new InvalidError("unreadable_file", `${path} cannot be read: does it exist?`, { cause });
  }
  try {
    return parse(text) as unknown; // JSON is YAML.
  } catch (cause) {
    throw new InvalidError("invalid_file", `${path} is neither YAML nor JSON: ${messageOf(cause).split("\n")[0]}`, {
      cause,
    });
  }
}
