import { shardOf, type Collective } from "../collectives/collective.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import type { TrainedTensor } from "./adamw.ts";

/** A trained tensor as every rank holds it: its values and the sum of this rank's gradients. */
export type TrainedValues = Pick<TrainedTensor, "name" | "shape" | "values" | "gradient" | "isDecayed">;

/** The piece of a tensor that this rank updates, with the moments that belong to it. */
export interface TrainedPart extends TrainedTensor {
  /** Position of the piece's first element in its tensor. */
  readonly start: number;
}

/**
 * What ranks do together between backward and the next forward. Without others: nothing. With others, the gradients of all
 * ranks are summed, and every rank makes the same update of all weights. Sharded, each rank keeps moments of its shard of
 * the weights only, gets the sums of that shard, updates it and gives it to the others (ZeRO stage 1, Rajbhandari et al.
 * 2020, arXiv 1910.02054): the optimizer's memory is divided by the ranks, and as many bytes go over the wire.
 */
export class RankUpdate {
  /** What this rank updates. */
  readonly parts: readonly TrainedPart[];
  readonly #tensors: readonly TrainedValues[];
  readonly #collective: Collective | null;
  readonly #isSharded: boolean;

  constructor(tensors: readonly TrainedValues[], collective: Collective | null, isSharded: boolean) {
    this.#tensors = tensors;
    this.#collective = collective;
    this.#isSharded = isSharded && collective !== null;
    this.parts = partsOf(tensors, this.#isSharded ? collective : null);
  }

  /** Sums the gradients, and `counts` with them, over the ranks. A rank that had no row of this step gives zeros. */
  async reduce(counts: Float64Array, hasGradients: boolean): Promise<void> {
    if (!this.#collective) return;
    const gradients = this.#tensors.map(({ gradient }) => gradient);
    if (!hasGradients) for (const gradient of gradients) gradient.fill(0);
    const collective = this.#collective;
    await Promise.all([
      collective.allReduceSum([counts]),
      this.#isSharded ? collective.reduceScatterSum(gradients) : collective.allReduceSum(gradients),
    ]);
  }

  /** L2 norm of the summed gradients of all weights, given that of this rank's parts. */
  async norm(own: number): Promise<number> {
    if (!this.#isSharded) return own;
    const squares = Float64Array.of(own * own);
    await this.#collective?.allReduceSum([squares]);
    return Math.sqrt(squares[0] as number);
  }

  /** Gives what this rank updated to the others, where they did not update it themselves. */
  async share(): Promise<void> {
    if (this.#isSharded) await this.#collective?.allGather(this.#tensors.map(({ values }) => values));
  }
}

/** The pieces of a rank's shard of all tensors laid end to end; the whole tensors when there is nobody to share with. */
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
