import type { ClusterBackend, Gang, GangEnd, GangSpec, RankEnd } from "../src/backend/cluster-backend.ts";

/** A gang of one rank that runs until it is told to end. */
export class FakeGang implements Gang {
  readonly name: string;
  readonly ranks = 1;
  readonly ended: Promise<GangEnd>;
  /** What was asked of it, in order. */
  readonly asked: string[] = [];
  readonly #obeysStop: boolean;
  #end: (end: GangEnd) => void = () => undefined;

  constructor(name: string, obeysStop = true) {
    this.name = name;
    this.#obeysStop = obeysStop;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  end(end: Partial<RankEnd>): void {
    const cause = {
      rank: 0,
      exitCode: null,
      signal: null,
      reason: "exited",
      node: null,
      message: null,
      ...end,
    } as const;
    this.#end({ cause, ranks: [cause] });
  }

  stop(): void {
    this.asked.push("stop");
    if (this.#obeysStop) this.end({ exitCode: 143 });
  }

  kill(): void {
    this.asked.push("kill");
    this.end({ signal: "SIGKILL" });
  }
}

/** Gangs in memory. */
export class FakeBackend implements ClusterBackend {
  readonly gangs: FakeGang[];
  readonly started: GangSpec[] = [];

  constructor(...gangs: FakeGang[]) {
    this.gangs = gangs;
  }

  async start(spec: GangSpec): Promise<Gang> {
    this.started.push(spec);
    const gang = new FakeGang(spec.name);
    this.gangs.push(gang);
    return gang;
  }

  async find(name: string): Promise<Gang | null> {
    return this.gangs.find((gang) => gang.name === name) ?? null;
  }

  async list(): Promise<FakeGang[]> {
    return this.gangs;
  }
}
