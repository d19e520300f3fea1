import { setTimeout as delay } from "node:timers/promises";
import type { ClusterBackend, Gang, GangEnd, GangSpec, RankEnd } from "./cluster-backend.ts";
import { gangEnd, isFailure } from "./gang-end.ts";
import { LocalProcesses, type LocalProcess, type LocalProcessesOptions } from "./local-processes.ts";

/** After the first bad end the other ranks get so long to say what they know. */
const settleMs = 1000;

/** Gangs as operating-system processes of this computer, one a rank. */
export class LocalBackend implements ClusterBackend {
  readonly #processes: LocalProcesses;
  /** Gangs under watch, so that whoever asks for one gets the same. */
  readonly #gangs = new Map<string, Gang>();

  constructor(options: LocalProcessesOptions) {
    this.#processes = new LocalProcesses(options);
  }

  async start(spec: GangSpec): Promise<Gang> {
    const running = await this.find(spec.name);
    if (running) return running;
    const processes = await Promise.all(
      Array.from(
        { length: spec.ranks },
        async (_, rank) =>
          await this.#processes.start({
            name: rankName(spec.name, rank),
            memoryLimitBytes: spec.memoryLimitBytes,
            logKey: spec.logKeys[rank] ?? `${spec.name}/rank-${rank}.log`,
            environment: {
              ...spec.environment,
              ...spec.secrets,
              DRYDOCK_RANK: String(rank),
              DRYDOCK_WORLD_SIZE: String(spec.ranks),
            },
          }),
      ),
    );
    return this.#gang(spec.name, processes);
  }

  async find(name: string): Promise<Gang | null> {
    const watched = this.#gangs.get(name);
    if (watched) return watched;
    return (await this.list()).find((gang) => gang.name === name) ?? null;
  }

  async list(): Promise<Gang[]> {
    const processes = await this.#processes.list();
    const names = new Set(processes.map((process) => gangName(process.name)));
    return [...names].map(
      (name) =>
        this.#gangs.get(name) ??
        this.#gang(
          name,
          processes.filter((process) => gangName(process.name) === name),
        ),
    );
  }

  #gang(name: string, processes: readonly LocalProcess[]): Gang {
    const kill = (): void => processes.forEach((process) => process.kill());
    const gang: Gang = {
      name,
      ranks: processes.length,
      ended: endOf(processes, kill).finally(() => this.#gangs.delete(name)),
      stop: () => processes.forEach((process) => process.stop()),
      kill,
    };
    this.#gangs.set(name, gang);
    return gang;
  }
}

/** Waits for every rank; ends the others soon after one ended badly. */
async function endOf(processes: readonly LocalProcess[], kill: () => void): Promise<GangEnd> {
  const ends: RankEnd[] = [];
  const each = processes.map(async (process) => {
    const end: RankEnd = { rank: rankOf(process.name), node: null, message: null, ...(await process.ended) };
    ends.push(end);
    if (!isFailure(end) || ends.length === processes.length) return;
    await delay(settleMs);
    kill();
  });
  await Promise.all(each);
  return gangEnd(ends);
}

function rankName(gang: string, rank: number): string {
  return `${gang}-r${rank}`;
}

function gangName(process: string): string {
  return process.replace(/-r\d+$/, "");
}

function rankOf(process: string): number {
  return Number(/-r(\d+)$/.exec(process)?.[1] ?? 0);
}
