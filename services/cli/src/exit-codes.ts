import { exitCodes, isDrydockError } from "@drydock/kit";

/**
 * What `drydock` answers to a script. The engine's own commands (`train`, `predict`, `model logits`) pass on the
 * worker's code, which is why the numbers of the two agree.
 */
export const cliExitCodes = {
  /** Done. */
  done: 0,
  /** Something went wrong that has no code of its own. */
  failed: 1,
  /** The command line is wrong: unknown command, missing or malformed option. */
  usage: 2,
  /** A run that was waited for ended as failed or cancelled; or `doctor` found something missing. */
  unsuccessful: 3,
  /** The named thing does not exist, or its state forbids the call. */
  notFound: 4,
  conflict: 5,
  /** The key is missing, unknown, or lacks the right. */
  forbidden: 6,
  /** A spec or a value that the server or the worker refuses. */
  invalid: exitCodes.badConfig,
  /** The server does not answer; the same command may work later. */
  unavailable: exitCodes.retry,
  interrupted: exitCodes.interrupted,
} as const;

/** The exit code of an error that ended a command. */
export function exitCodeOf(error: unknown): number {
  if (!isDrydockError(error)) return cliExitCodes.failed;
  switch (error.status) {
    case 401:
    case 403:
      return cliExitCodes.forbidden;
    case 404:
      return cliExitCodes.notFound;
    case 409:
    case 412:
      return cliExitCodes.conflict;
    case 400:
    case 413:
    case 422:
      return error.code === "usage" ? cliExitCodes.usage : cliExitCodes.invalid;
    default:
      return error.isRetryable ? cliExitCodes.unavailable : cliExitCodes.failed;
  }
}

/** The table of exit codes, as shown in `--help` and in the guide. */
export const exitCodeTable: readonly (readonly [number, string])[] = [
  [cliExitCodes.done, "done"],
  [cliExitCodes.failed, "an error without a code of its own"],
  [cliExitCodes.usage, "the command line is wrong"],
  [cliExitCodes.unsuccessful, "the run that was watched failed or was cancelled; doctor found something missing"],
  [cliExitCodes.notFound, "the named thing does not exist"],
  [cliExitCodes.conflict, "the state of the thing forbids it: already there, already over, changed meanwhile"],
  [cliExitCodes.forbidden, "the key is missing, unknown, or lacks the right"],
  [cliExitCodes.invalid, "a spec, a file or a value is refused: the message names the field"],
  [exitCodes.badData, "train, predict, model logits: a row of the data is bad"],
  [exitCodes.outOfMemory, "train, predict, model logits: out of memory"],
  [cliExitCodes.unavailable, "the server or a service that it needs does not answer: try again"],
  [exitCodes.hardware, "train, predict, model logits: a device failed"],
  [cliExitCodes.interrupted, "stopped by Ctrl-C; training stops after a checkpoint"],
  [exitCodes.terminated, "stopped by a termination signal; training stops after a checkpoint"],
];
