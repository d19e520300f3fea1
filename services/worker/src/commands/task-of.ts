import { InvalidError } from "@drydock/kit";
import { Task } from "@drydock/spec";

/** @throws InvalidError `invalid_arguments` with the tasks that there are */
export function taskOf(value: string, usage: string): Task {
  const parsed = Task.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new InvalidError(
    "invalid_arguments",
    `--task "${value}" is not one of ${Task.options.join(", ")}\nusage: ${usage}`,
  );
}
