/* One of the threads of a `ThreadedAdamW`: takes blocks from the common counter until none is left. */
import { serveThread } from "../runtime/serve-thread.ts";
import { blocksOf, type Block, type OptimizerRequest, type SharedTensor } from "./optimizer-messages.ts";
import { OptimizerKernels, places } from "./optimizer-kernels.ts";

const kernels = new OptimizerKernels();
const { memory } = kernels;

interface Held {
  readonly tensors: readonly SharedTensor[];
  readonly blocks: readonly Block[];
  readonly sums: Float64Array;
  readonly next: Int32Array;
}
let held: Held | null = null;

function answer(request: OptimizerRequest): null {
  if (request.kind === "hold") {
    const { tensors, sums, next } = request;
    held = { tensors, blocks: blocksOf(tensors), sums, next };
    return null;
  }
  const { tensors, blocks, sums, next } = held as Held; // the first request is "hold"
  for (let index = Atomics.add(next, 0, 1); index < blocks.length; index = Atomics.add(next, 0, 1)) {
    const block = blocks[index] as Block;
    const tensor = tensors[block.tensor] as SharedTensor;
    if (request.kind === "sum") sums[index] = sumOfSquares(tensor, block);
    else update(tensor, block, tensor.isDecayed ? request.factors : { ...request.factors, keep: 1 });
  }
  return null;
}

function sumOfSquares({ gradient }: SharedTensor, { start, end }: Block): number {
  memory.set(gradient.subarray(start, end), places.gradient);
  return kernels.sumOfSquares(end - start);
}

function update(tensor: SharedTensor, { start, end }: Block, factors: Parameters<typeof kernels.update>[1]): void {
  const count = end - start;
  memory.set(tensor.values.subarray(start, end), places.values);
  memory.set(tensor.gradient.subarray(start, end), places.gradient);
  memory.set(tensor.firstMoment.subarray(start, end), places.firstMoment);
  memory.set(tensor.secondMoment.subarray(start, end), places.secondMoment);
  kernels.update(count, factors);
  tensor.values.set(memory.subarray(places.values, places.values + count), start);
  tensor.firstMoment.set(memory.subarray(places.firstMoment, places.firstMoment + count), start);
  tensor.secondMoment.set(memory.subarray(places.secondMoment, places.secondMoment + count), start);
}

serveThread(answer);
