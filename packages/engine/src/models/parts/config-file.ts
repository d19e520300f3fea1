import { InvalidError } from "@drydock/kit";
import type { z } from "zod";

/** What a `config.json` holds, in the shape that a family reads. @throws InvalidError (`bad_model_config`) naming the key */
export function readConfigFile<Schema extends z.ZodType>(schema: Schema, file: unknown): z.output<Schema> {
  const parsed = schema.safeParse(file);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw badConfig(`${issue?.path.join(".") || "file"}: ${issue?.message ?? "not understood"}`);
}

export function badConfig(problem: string): InvalidError {
  return new InvalidError("bad_model_config", `config.json: ${problem}`);
}
