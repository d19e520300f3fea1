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
export async function runWorker({ arguments: values, onLine, onLog, environment }: WorkerRun): Promise<WorkerExit> {
  const child = spawn(process.execPath, ["--no-warnings", workerMain, ...values], {
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
  // A terminal sends Ctrl-C to the whole group; a supervisor sends it to us alone, so pass it on.
  const passOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore).on("SIGTERM", passOn);
  try {
    const exitCode = await exitOf(child);
    await Promise.all(reading);
    return { exitCode, lastLog };
  } finally {
    process.off("SIGINT", ignore).off("SIGTERM", passOn);
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
