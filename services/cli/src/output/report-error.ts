import { isDrydockError, messageOf } from "@drydock/kit";
import { exitCodeOf } from "../exit-codes.ts";

/**
 * Tells a person (or, with `--json`, a script) why a command ended, and answers the exit code. A stack trace is never
 * shown; `DRYDOCK_DEBUG=1` adds it for whoever mends Drydock itself.
 */
export function reportError(
  error: unknown,
  isJson: boolean,
  write: (text: string) => void,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): number {
  const exitCode = exitCodeOf(error);
  const details = isDrydockError(error) ? error.details : [];
  const code = isDrydockError(error) ? error.code : "internal_error";
  const message = messageOf(error);
  if (isJson) {
    write(`${JSON.stringify({ error: { code, message, exitCode, details } })}\n`);
  } else {
    write(`drydock: ${message}\n`);
    for (const detail of details) {
      if (!message.includes(detail.message))
        write(`  ${detail.path === "" ? "" : `${detail.path}: `}${detail.message}\n`);
    }
    if (!isDrydockError(error))
      write("This is a fault in Drydock, not in what you typed. DRYDOCK_DEBUG=1 shows where it happened.\n");
  }
  if (environment["DRYDOCK_DEBUG"] === "1" && error instanceof Error) write(`${error.stack ?? ""}\n`);
  return exitCode;
}
