import { pino, type Logger } from "pino";

export type { Logger };

/**
 * A JSON logger on stderr (stdout belongs to a command's answer). `DRYDOCK_LOG_LEVEL` sets the level (default `info`).
 * Bind `runId`, `attempt`, `rank`, `step` with `logger.child({...})`; keep messages constant so that they can be searched.
 */
export function createLogger(
  service: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Logger {
  return pino(
    {
      level: environment["DRYDOCK_LOG_LEVEL"] ?? "info",
      base: { service },
      redact: { paths: ["*.authorization", "*.token", "*.key", "*.secret"], censor: "[secret]" },
      timestamp: pino.stdTimeFunctions.isoTime,
    },
    pino.destination({ dest: 2, sync: true }),
  );
}
