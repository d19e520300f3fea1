import { spawn, type ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { UnavailableError } from "@drydock/kit";

/** The program behind `train`, `predict` and `model logits`; a process of its own, since the engine is large and may run out of memory. */
const workerMain = fileURLToPath(import.meta.resolve("../../../worker/src/main.ts"));

export interface WorkerRun {
  readonly arguments: readonly string[];
  /** Called with each line of stdout; without it the worker writes to our stdout itself. */
  readonly onLine?: (line: string) => void;
  /** Called with each line of stderr; without it the worker writes to our stderr itself. */
  readonly onLog?: (line: string) => void;
  readonly environment?: Readonly<Record<string, string>>;
  /** The program; default the worker. */
  readonly program?: string;
}

/** How a worker ended. `lastLog` is its last line of stderr, when `onLog` was given. */
export interface WorkerExit {
  readonly exitCode: number;
  readonly lastLog: string | null;
}

/**
 * Runs the worker to its end. Ctrl-C reaches it too: it stops after a checkpoint, and only then does this return.
 *
 * @throws UnavailableError when the worker cannot be started at all
 */
export async function runWorker({
  arguments: values,
  onLine,
  onLog,
  environment,
  program = workerMain,
}: WorkerRun): Promise<WorkerExit> {
  const child = spawn(process.execPath, ["--no-warnings", program, ...values], {
    // A group of its own: a terminal's Ctrl-C comes to us alone, as a supervisor's signal does, and is passed on once. A
    // second one would end the worker without its checkpoint.
    detached: true,
    stdio: ["inherit", onLine ? "pipe" : "inherit", onLog ? "pipe" : "inherit"],
    env: { ...process.env, ...environment },
  });
  let lastLog: string | null = null;
  const reading = [
    readLines(child.stdout, onLine),
    readLines(
      child.stderr,
      onLog &&
        ((line) => {
          lastLog = line;
          onLog(line);
        }),
    ),
  ];
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  // The terminal is gone: as when it is asked to end.
  const end = (): void => passOn("SIGTERM");
  process.on("SIGINT", passOn).on("SIGTERM", passOn).on("SIGHUP", end);
  try {
    const exitCode = await exitOf(child);
    await Promise.all(reading);
    return { exitCode, lastLog };
  } finally {
    process.off("SIGINT", passOn).off("SIGTERM", passOn).off("SIGHUP", end);
  }
}

async function readLines(
  stream: NodeJS.ReadableStream | null,
  onLine: ((line: string) => void) | undefined,
): Promise<void> {
  if (stream === null || onLine === undefined) return;
  for await (const line of createInterface({ input: stream })) onLine(line);
}

function exitOf(child: ChildProcess): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once("error", (cause) =>
    reject(new UnavailableError("worker_not_started", `the worker could not be started: ${cause.message}`, { cause })),
  );
  child.once("exit", (code, signal) =>
    resolve(code ?? (signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : signal === "SIGKILL" ? 137 : 1)),
  );
  return promise;
}
