import { shardOf, type Collective } from "../collectives/collective.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import type { TrainedTensor } from "./trained-tensor.ts";

/** A trained tensor as every rank of its stage holds it: its values and the sum of this rank's gradients. */
export type TrainedValues = Pick<TrainedTensor, "name" | "shape" | "values" | "gradient" | "isDecayed">;

/** The piece of a tensor that this rank updates, with the moments that belong to it. */
export interface TrainedPart extends TrainedTensor {
  /** Position of the piece's first element in its tensor. */
  readonly start: number;
}

/** Whom this rank shares its update with. */
export interface UpdateRanks {
  /** All ranks of the attempt; null for one that is alone. */
  readonly all: Collective | null;
  /** Those that hold the same tensors; null when there is no other. */
  readonly sameTensors: Collective | null;
  /** Each keeps moments of its shard of the tensors only. */
  readonly isSharded: boolean;
}

/** A bucket is summed as soon as so many bytes of gradients are final (25 MB as in PyTorch's DistributedDataParallel). */
const bucketBytes = 25_000_000;

/** Tensors whose gradients are summed by one operation. */
interface Bucket {
  readonly tensors: readonly TrainedValues[];
  /** Names that are not final yet in this step. */
  readonly open: Set<string>;
}

/**
 * What ranks do together between backward and the next forward. Without others: nothing. With others, the gradients of all
 * ranks are summed, bucket by bucket as they become final, and every rank makes the same update of all weights. Sharded,
 * each rank keeps moments of its shard of each bucket only, gets the sums of that shard, updates it and gives it to the
 * others (ZeRO stage 1, Rajbhandari et al. 2020, arXiv 1910.02054): the optimizer's memory is divided by the ranks, and as
 * many bytes go over the wire.
 */
export class RankUpdate {
  /** What this rank updates. */
  readonly parts: readonly TrainedPart[];
  readonly #ranks: UpdateRanks;
  readonly #buckets: readonly Bucket[];
  /** Sums that have begun in this step, in the order of the buckets. */
  readonly #sums: Promise<void>[] = [];

  /** @param tensors  in the order in which their gradients become final, where that is known */
  constructor(tensors: readonly TrainedValues[], ranks: UpdateRanks) {
    this.#ranks = ranks;
    this.#buckets = bucketsOf(tensors);
    this.parts = this.#buckets.flatMap((bucket) => partsOf(bucket.tensors, this.#isSharded ? ranks.sameTensors : null));
  }

  /** Takes note that gradients are final. Ranks begin the sums of buckets in the same order, whoever is faster. */
  completed(names: readonly string[]): void {
    if (!this.#ranks.sameTensors) return;
    for (const { open } of this.#buckets) for (const name of names) open.delete(name);
    while (this.#buckets[this.#sums.length]?.open.size === 0) this.#begin();
  }

  /** Sums the gradients, and `counts` with them, over the ranks. A rank that had no row of this step gives zeros. */
  async reduce(counts: Float64Array, hasGradients: boolean): Promise<void> {
    const { all, sameTensors } = this.#ranks;
    if (!hasGradients) for (const { tensors } of this.#buckets) for (const { gradient } of tensors) gradient.fill(0);
    if (sameTensors) while (this.#sums.length < this.#buckets.length) this.#begin();
    await Promise.all([all?.allReduceSum([counts]), sameTensors?.barrier(), ...this.#sums]);
    this.#sums.length = 0;
    for (const { open, tensors } of this.#buckets) for (const { name } of tensors) open.add(name);
  }

  /** L2 norm of the summed gradients of all weights of all stages, given that of this rank's parts. */
  async norm(own: number): Promise<number> {
    const { all, sameTensors } = this.#ranks;
    if (!all || (!this.#isSharded && all.worldSize === sameTensors?.worldSize)) return own;
    // Where ranks hold the same sums, one of them tells.
    const squares = Float64Array.of(this.#isSharded || (sameTensors?.rank ?? 0) === 0 ? own * own : 0);
    await all.allReduceSum([squares]);
    return Math.sqrt(squares[0] as number);
  }

  /** Gives what this rank updated to the others, where they did not update it themselves. */
  async share(): Promise<void> {
    if (!this.#isSharded) return;
    for (const { tensors } of this.#buckets)
      await this.#ranks.sameTensors?.allGather(tensors.map(({ values }) => values));
  }

  get #isSharded(): boolean {
    return this.#ranks.isSharded && this.#ranks.sameTensors !== null;
  }

  #begin(): void {
    const bucket = this.#buckets[this.#sums.length];
    const { sameTensors } = this.#ranks;
    if (!bucket || !sameTensors) return;
    const gradients = bucket.tensors.map(({ gradient }) => gradient);
    const collective = sameTensors.background ?? sameTensors;
    const sum = this.#isSharded ? collective.reduceScatterSum(gradients) : collective.allReduceSum(gradients);
    sum.catch(() => undefined); // thrown where it is awaited, unless the step failed before
    this.#sums.push(sum);
  }
}

function bucketsOf(tensors: readonly TrainedValues[]): Bucket[] {
  const buckets: TrainedValues[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const tensor of tensors) {
    if (bytes >= bucketBytes) {
      buckets.push([]);
      bytes = 0;
    }
    buckets.at(-1)?.push(tensor);
    bytes += tensor.values.byteLength;
  }
  return buckets.map((bucket) => ({ tensors: bucket, open: new Set(bucket.map(({ name }) => name)) }));
}

/** The pieces of a rank's shard of tensors laid end to end; the whole tensors when there is nobody to share with. */
function partsOf(tensors: readonly TrainedValues[], collective: Collective | null): TrainedPart[] {
  const total = tensors.reduce((sum, { values }) => sum + values.length, 0);
  const shard = collective ? shardOf(total, collective.rank, collective.worldSize) : { start: 0, end: total };
  const parts: TrainedPart[] = [];
  let position = 0;
  for (const tensor of tensors) {
    const size = tensor.values.length;
    const start = Math.min(size, Math.max(0, shard.start - position));
    const end = Math.max(start, Math.min(size, shard.end - position));
    position += size;
    if (end > start) parts.push(partOf(tensor, start, end));
  }
  return parts;
}

function partOf(tensor: TrainedValues, start: number, end: number): TrainedPart {
  return {
    ...tensor,
    start,
    values: tensor.values.subarray(start, end),
    gradient: tensor.gradient.subarray(start, end),
    firstMoment: sharedFloats(end - start),
    secondMoment: sharedFloats(end - start),
  };
}
