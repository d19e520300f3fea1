/*
 * One rank of the benchmark of ranks: a process with a ring on a thread of its own, told over its channel what to do and
 * answering each order with one message.
 */
import { EngineTrainer, RingThread, type RingOptions, type ThreadedRing } from "@drydock/engine";
import { readTrainBatch } from "./train-batch.ts";

export interface RankOrder {
  readonly connect?: RingOptions;
  /** Sums a vector of so many bytes over the ranks, so many times. */
  readonly reduce?: { readonly bytes: number; readonly times: number };
  /** Takes steps, with the other ranks or each rank for itself. */
  readonly train?: {
    readonly model: string;
    readonly batch: string;
    readonly mode: "lora" | "full";
    readonly steps: number;
    readonly isTogether: boolean;
  };
  readonly leave?: true;
}

export interface RankAnswer {
  readonly address?: string;
  readonly seconds?: readonly number[];
  /** Bytes this rank sent, per turn. */
  readonly sentBytes?: number;
}

/** Steps before the clock counts. */
const warmUpSteps = 2;

const thread = await RingThread.listen("127.0.0.1");
let ring: ThreadedRing | null = null;

function joined(): ThreadedRing {
  if (!ring) throw new Error("the rank is not connected yet");
  return ring;
}

async function reduce({ bytes, times }: NonNullable<RankOrder["reduce"]>): Promise<RankAnswer> {
  const vector = new Float32Array(new SharedArrayBuffer(bytes));
  const seconds: number[] = [];
  await joined().allReduceSum([vector]);
  const before = await joined().traffic();
  for (let turn = 0; turn < times; turn++) {
    const startedMs = performance.now();
    await joined().allReduceSum([vector]);
    seconds.push((performance.now() - startedMs) / 1000);
  }
  const after = await joined().traffic();
  return { seconds, sentBytes: (after.sentBytes - before.sentBytes) / times };
}

async function train(order: NonNullable<RankOrder["train"]>): Promise<RankAnswer> {
  const trainer = await EngineTrainer.open({
    directory: order.model,
    mode: order.mode,
    lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 1000 },
    seed: 1,
    threads: 1,
    ...(order.isTogether ? { collective: joined(), shardOptimizer: order.mode === "full" } : {}),
  });
  const batch = await readTrainBatch(order.batch);
  const seconds: number[] = [];
  await joined().barrier();
  for (let step = 0; step < warmUpSteps + order.steps; step++) {
    const startedMs = performance.now();
    await trainer.step([batch]);
    if (step >= warmUpSteps) seconds.push((performance.now() - startedMs) / 1000);
  }
  await joined().barrier();
  await trainer.close();
  return { seconds };
}

async function obey(order: RankOrder): Promise<RankAnswer> {
  if (order.connect) ring = await thread.connect(order.connect);
  if (order.reduce) return await reduce(order.reduce);
  if (order.train) return await train(order.train);
  if (order.leave) await joined().close();
  return {};
}

process.on("message", (order: RankOrder) => {
  void obey(order).then((answer) => {
    process.send?.(answer);
    if (order.leave) process.disconnect();
  });
});
process.send?.({ address: thread.address } satisfies RankAnswer);
