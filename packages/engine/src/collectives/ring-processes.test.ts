import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";

const program = fileURLToPath(new URL("../../test/ring-process.ts", import.meta.url));
const processes: RankProcess[] = [];
afterEach(() => {
  for (const { child } of processes.splice(0)) child.kill("SIGKILL");
});

type Message = Readonly<Record<string, unknown>>;

/** A rank as a process of its own, told what to do over its channel. */
class RankProcess {
  readonly child: ChildProcess;
  readonly #messages: Message[] = [];
  #wake: () => void = () => undefined;

  constructor() {
    this.child = spawn(process.execPath, [program], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.child.on("message", (message) => {
      this.#messages.push(message as Message);
      this.#wake();
    });
    processes.push(this);
  }

  tell(message: Message): void {
    this.child.send(message);
  }

  /** The next message that has `key`. */
  async heard(key: string): Promise<Message> {
    for (;;) {
      const index = this.#messages.findIndex((message) => key in message);
      if (index >= 0) return this.#messages.splice(index, 1)[0] as Message;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}

async function ringOf(worldSize: number, options: Message = {}): Promise<RankProcess[]> {
  const ranks = Array.from({ length: worldSize }, () => new RankProcess());
  const peers = await Promise.all(ranks.map(async (rank) => (await rank.heard("address"))["address"]));
  ranks.forEach((rank, index) =>
    rank.tell({ connect: { rank: index, peers, epoch: 3, token: "secret", connectMs: 20_000, ...options } }),
  );
  await Promise.all(ranks.map(async (rank) => await rank.heard("connected")));
  return ranks;
}

test.each([2, 3, 4, 8])("%i processes end with the same sums, to the byte", { timeout: 60_000 }, async (worldSize) => {
  const ranks = await ringOf(worldSize);
  for (const rank of ranks) rank.tell({ reduce: 300_000, times: 3 });
  const digests = await Promise.all(ranks.map(async (rank) => (await rank.heard("digest"))["digest"]));
  expect(new Set(digests).size).toBe(1);
  for (const rank of ranks) rank.tell({ leave: true });
  const codes = await Promise.all(ranks.map(async ({ child }) => child.exitCode ?? (await once(child, "exit"))[0]));
  expect(codes).toEqual(ranks.map(() => 0));
});

test("a rank that is killed in the middle of a sum is named by every other rank", { timeout: 60_000 }, async () => {
  const ranks = await ringOf(4);
  for (const rank of ranks) rank.tell({ reduce: 100_000, times: 1_000_000 });
  await Promise.all(ranks.map(async (rank) => await rank.heard("began")));
  ranks[2]?.child.kill("SIGKILL");
  const others = ranks.filter((_, rank) => rank !== 2);
  expect(await Promise.all(others.map(async (rank) => await rank.heard("lostRank")))).toMatchObject(
    others.map(() => ({ lostRank: 2, message: expect.stringMatching(/^rank 2 was lost: its connection was/) })),
  );
});

test("a rank that stands still is named once it has been silent for too long", { timeout: 60_000 }, async () => {
  const ranks = await ringOf(3, { heartbeatMs: 50, silenceMs: 1500 });
  for (const rank of ranks) rank.tell({ reduce: 100_000, times: 1_000_000 });
  await Promise.all(ranks.map(async (rank) => await rank.heard("began")));
  ranks[1]?.child.kill("SIGSTOP");
  for (const rank of [ranks[0], ranks[2]]) {
    expect(await rank?.heard("lostRank")).toMatchObject({
      lostRank: 1,
      message: expect.stringMatching(/^rank 1 was lost: it said nothing for \d/),
    });
  }
});

test("a rank whose training thread is busy for long is not taken for dead", { timeout: 60_000 }, async () => {
  const ranks = await ringOf(2, { heartbeatMs: 50, silenceMs: 1000 });
  ranks[0]?.tell({ blockMs: 2500 });
  for (const rank of ranks) rank.tell({ reduce: 10, times: 1 });
  const digests = await Promise.all(ranks.map(async (rank) => (await rank.heard("digest"))["digest"]));
  expect(new Set(digests).size).toBe(1);
});
