import { exitCodes } from "@drydock/kit";
import type { RunControl } from "./training/run-control.ts";

/**
 * SIGTERM and Ctrl-C ask the run to stop after a checkpoint, with exit codes 143 and 130. A second Ctrl-C ends the
 * process at once; what is lost are the steps since the last checkpoint.
 *
 * @returns takes the handlers away again
 */
export function stopOnSignals(control: RunControl, tell: (message: string) => void): () => void {
  const onTerminate = (): void => {
    tell("SIGTERM: stopping after a checkpoint");
    control.askBySignal(exitCodes.terminated);
  };
  const onInterrupt = (): void => {
    if (control.request !== null) process.exit(exitCodes.interrupted);
    tell("stopping after a checkpoint; press Ctrl-C again to stop at once");
    control.askBySignal(exitCodes.interrupted);
  };
  process.on("SIGTERM", onTerminate);
  process.on("SIGINT", onInterrupt);
  return () => {
    process.off("SIGTERM", onTerminate);
    process.off("SIGINT", onInterrupt);
  };
}
