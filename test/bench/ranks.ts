import { fork, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import type { RankAnswer, RankOrder } from "./rank-subject.ts";
import { trainCases, writeTrainCase } from "./train-cases.ts";

/*
 * Ranks as processes of this machine, 2, 4 and 8 of them: how long an all-reduce takes and how many bytes it sends against
 * the least that any all-reduce must, 2(n−1)/n of the vector; and what working together costs a training step, against the
 * same processes training at the same time each for itself.
 * Usage: node test/bench/ranks.ts [--json]
 */
const mebibyte = 2 ** 20;
const worldSizes = [2, 4, 8];
const vectors = [
  { mebibytes: 1, times: 20 },
  { mebibytes: 16, times: 10 },
  { mebibytes: 64, times: 5 },
];
const steps = 4;
const turns = 3;

/** A process of `rank-subject.ts`. */
class Rank {
  readonly #child: ChildProcess;
  readonly #answers: RankAnswer[] = [];
  #wake: () => void = () => undefined;

  constructor() {
    this.#child = fork(join(import.meta.dirname, "rank-subject.ts"));
    this.#child.on("message", (answer) => {
      this.#answers.push(answer as RankAnswer);
      this.#wake();
    });
    this.#child.on("exit", (code) => {
      if (code !== 0) throw new Error(`a rank ended with code ${code}`);
    });
  }

  async answer(): Promise<RankAnswer> {
    while (this.#answers.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return this.#answers.shift() as RankAnswer;
  }

  async obey(order: RankOrder): Promise<RankAnswer> {
    this.#child.send(order);
    return await this.answer();
  }
}

async function startRanks(worldSize: number): Promise<Rank[]> {
  const ranks = Array.from({ length: worldSize }, () => new Rank());
  const peers = await Promise.all(ranks.map(async (rank) => (await rank.answer()).address ?? ""));
  await Promise.all(
    ranks.map(async (rank, index) => await rank.obey({ connect: { rank: index, peers, epoch: 1, token: "bench" } })),
  );
  return ranks;
}

async function all(ranks: readonly Rank[], order: RankOrder): Promise<RankAnswer[]> {
  return await Promise.all(ranks.map(async (rank) => await rank.obey(order)));
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

async function measureReduce(ranks: readonly Rank[], vector: (typeof vectors)[number]): Promise<object> {
  const bytes = vector.mebibytes * mebibyte;
  const answers = await all(ranks, { reduce: { bytes, times: vector.times } });
  const seconds = median(answers.flatMap((answer) => answer.seconds ?? []));
  const sentBytes = Math.max(...answers.map((answer) => answer.sentBytes ?? 0));
  const leastBytes = (2 * (ranks.length - 1) * bytes) / ranks.length;
  return {
    what: "all-reduce",
    ranks: ranks.length,
    mebibytes: vector.mebibytes,
    milliseconds: seconds * 1000,
    sentBytesPerRank: Math.round(sentBytes),
    leastBytesPerRank: leastBytes,
    bytesOverLeast: sentBytes / leastBytes,
    mebibytesPerSecondAndRank: sentBytes / mebibyte / seconds,
  };
}

async function measureStep(
  ranks: readonly Rank[],
  files: { readonly model: string; readonly batch: string },
  mode: "lora" | "full",
): Promise<object> {
  const secondsOf = async (isTogether: boolean): Promise<readonly number[]> => {
    const answers = await all(ranks, { train: { ...files, mode, steps, isTogether } });
    return answers.flatMap((answer) => answer.seconds ?? []);
  };
  // In turns, so that whatever else the machine does falls on both.
  const seconds = { apart: [] as number[], together: [] as number[] };
  for (let turn = 0; turn < turns; turn++) {
    seconds.apart.push(...(await secondsOf(false)));
    seconds.together.push(...(await secondsOf(true)));
  }
  const apart = median(seconds.apart);
  const together = median(seconds.together);
  return {
    what: "training step",
    ranks: ranks.length,
    mode,
    millisecondsEachForItself: apart * 1000,
    millisecondsTogether: together * 1000,
    efficiency: apart / together,
  };
}

const directory = await mkdtemp(join(tmpdir(), "drydock-bench-ranks-"));
const results: object[] = [];
try {
  const [smallest] = trainCases;
  if (!smallest) throw new Error("there is no case to train");
  const files = await writeTrainCase(smallest, directory);
  for (const worldSize of worldSizes) {
    const ranks = await startRanks(worldSize);
    for (const vector of vectors) results.push(await measureReduce(ranks, vector));
    for (const mode of ["lora", "full"] as const) results.push(await measureStep(ranks, files, mode));
    await all(ranks, { leave: true });
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}

if (process.argv.includes("--json")) process.stdout.write(`${JSON.stringify(results)}\n`);
else {
  process.stdout.write(
    `Ranks on ${cpus().length} × ${cpus()[0]?.model ?? "unknown processor"}, Node ${process.version}\n`,
  );
  for (const result of results) {
    const values = Object.entries(result).map(([name, value]) =>
      typeof value === "number" ? `${name} ${Number.isInteger(value) ? value : value.toFixed(4)}` : `${name} ${value}`,
    );
    process.stdout.write(`${values.join("   ")}\n`);
  }
}
