import { readFile, readdir } from "node:fs/promises";

/** A worker process that lives, known by its own environment. */
export interface LiveWorker {
  readonly pid: number;
  readonly runId: string;
  readonly epoch: number;
}

/** Two attempts of one run that had a worker at the same moment. */
export interface DoubleLaunch {
  readonly runId: string;
  readonly epochs: readonly number[];
}

/** Workers of one state folder that live now, from the system's table of processes: nobody of Drydock is asked. */
export async function liveWorkers(stateDirectory: string): Promise<LiveWorker[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(async (pid) => await workerOf(pid, stateDirectory)));
  return found.filter((worker) => worker !== null);
}

/** Null for a process that is no worker of ours, has ended meanwhile, or is dead and only not yet waited for. */
async function workerOf(pid: string, stateDirectory: string): Promise<LiveWorker | null> {
  const text = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  if (!text.includes(`DRYDOCK_SCRATCH=${stateDirectory}/`)) return null;
  const environment = new Map(
    text.split("\0").map((line): [string, string] => {
      const [name = "", ...value] = line.split("=");
      return [name, value.join("=")];
    }),
  );
  const [runId, epoch] = [environment.get("DRYDOCK_RUN_ID"), environment.get("DRYDOCK_EPOCH")];
  return runId === undefined || epoch === undefined ? null : { pid: Number(pid), runId, epoch: Number(epoch) };
}

const lookMs = 150;

/** Looks at the processes again and again, from start to stop. */
export class WorkerWatch {
  readonly #stateDirectory: string;
  readonly #doubles: DoubleLaunch[] = [];
  #looks = 0;
  #isStopped = false;
  #watching: Promise<void> = Promise.resolve();

  constructor(stateDirectory: string) {
    this.#stateDirectory = stateDirectory;
  }

  start(): void {
    this.#watching = this.#watch();
  }

  async stop(): Promise<{ readonly looks: number; readonly doubles: readonly DoubleLaunch[] }> {
    this.#isStopped = true;
    await this.#watching;
    return { looks: this.#looks, doubles: this.#doubles };
  }

  async #watch(): Promise<void> {
    while (!this.#isStopped) {
      const epochs = new Map<string, Set<number>>();
      for (const { runId, epoch } of await liveWorkers(this.#stateDirectory))
        epochs.set(runId, (epochs.get(runId) ?? new Set()).add(epoch));
      for (const [runId, alive] of epochs) if (alive.size > 1) this.#doubles.push({ runId, epochs: [...alive] });
      this.#looks++;
      await new Promise((resolve) => setTimeout(resolve, lookMs));
    }
  }
}
