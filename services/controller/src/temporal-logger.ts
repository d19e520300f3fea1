import type { Logger } from "@drydock/kit";
import type { Logger as TemporalLogger } from "@temporalio/worker";

/** Temporal's own lines in our log: warnings and worse. */
export function temporalLogger(logger: Logger): TemporalLogger {
  const nothing = (): void => undefined;
  const warn = (message: string, meta?: object): void => logger.warn({ ...meta }, message);
  const error = (message: string, meta?: object): void => logger.error({ ...meta }, message);
  return {
    trace: nothing,
    debug: nothing,
    info: nothing,
    warn,
    error,
    log: (level, message, meta) => (level === "ERROR" ? error : level === "WARN" ? warn : nothing)(message, meta),
  };
}
