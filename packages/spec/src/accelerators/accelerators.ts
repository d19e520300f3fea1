import type { Accelerator, AcceleratorSupply, Price } from "./accelerator.ts";

const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

/** Order of magnitude of an on-demand price per device and hour; operators set their own. */
function assumedPrice(amount: number): Price {
  return { amount, currency: "USD", isAssumption: true };
}

/** The accelerators that Drydock plans for. Throughput is the vendors' dense bf16 figure. */
export const gpuAccelerators: readonly Accelerator[] = [
  {
    name: "nvidia-l4-24gb",
    title: "NVIDIA L4 24 GB",
    kind: "gpu",
    memoryBytes: 23_034 * mebibyte,
    bf16Teraflops: 121,
    bandwidthGigabytesPerSecond: 300,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(0.8),
  },
  {
    name: "nvidia-a10-24gb",
    title: "NVIDIA A10 24 GB",
    kind: "gpu",
    memoryBytes: 23_028 * mebibyte,
    bf16Teraflops: 125,
    bandwidthGigabytesPerSecond: 600,
    devicesPerNode: 4,
    pricePerHour: assumedPrice(1.2),
  },
  {
    name: "nvidia-a100-40gb",
    title: "NVIDIA A100 40 GB",
    kind: "gpu",
    memoryBytes: 40_536 * mebibyte,
    bf16Teraflops: 312,
    bandwidthGigabytesPerSecond: 1555,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(2),
  },
  {
    name: "nvidia-l40s-48gb",
    title: "NVIDIA L40S 48 GB",
    kind: "gpu",
    memoryBytes: 46_068 * mebibyte,
    bf16Teraflops: 362,
    bandwidthGigabytesPerSecond: 864,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(1.9),
  },
  {
    name: "nvidia-a100-80gb",
    title: "NVIDIA A100 80 GB",
    kind: "gpu",
    memoryBytes: 81_251 * mebibyte,
    bf16Teraflops: 312,
    bandwidthGigabytesPerSecond: 2039,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(2.7),
  },
  {
    name: "nvidia-h100-80gb",
    title: "NVIDIA H100 80 GB",
    kind: "gpu",
    memoryBytes: 81_559 * mebibyte,
    bf16Teraflops: 989,
    bandwidthGigabytesPerSecond: 3350,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(4),
  },
  {
    name: "nvidia-h200-141gb",
    title: "NVIDIA H200 141 GB",
    kind: "gpu",
    memoryBytes: 143_771 * mebibyte,
    bf16Teraflops: 989,
    bandwidthGigabytesPerSecond: 4800,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(5),
  },
  {
    name: "nvidia-b200-192gb",
    title: "NVIDIA B200 192 GB",
    kind: "gpu",
    memoryBytes: 183_359 * mebibyte,
    bf16Teraflops: 2250,
    bandwidthGigabytesPerSecond: 7700,
    devicesPerNode: 8,
    pricePerHour: assumedPrice(7.5),
  },
];

/**
 * The computer that Drydock itself runs on. Memory and speed are those of a small machine (8 GiB, two cores at the
 * 110 GFLOP/s measured for fp32 matrix products); the caller overrides the memory with what the machine has.
 */
export const cpuAccelerator: Accelerator = {
  name: "cpu",
  title: "this computer's processor",
  kind: "cpu",
  memoryBytes: 8 * gibibyte,
  bf16Teraflops: 0.11,
  bandwidthGigabytesPerSecond: 20,
  devicesPerNode: 1,
  pricePerHour: null,
};

/** fp32 matrix products of one core in TFLOP/s: half of what was measured on two. */
const teraflopsPerCore = 0.055;

/**
 * The supply of a computer without a GPU, for the local back end: its own memory and cores. One rank has them all; a
 * run that asks for more gets that many worker processes, at most one a core, which share them.
 *
 * @param machine  `memoryBytes` that a worker may use; `cores` it may use
 */
export function processorSupply(machine: {
  readonly memoryBytes: number;
  readonly cores: number;
}): AcceleratorSupply[] {
  const { memoryBytes, cores } = machine;
  const accelerator = { ...cpuAccelerator, memoryBytes, bf16Teraflops: Number((teraflopsPerCore * cores).toFixed(3)) };
  return [{ accelerator, maxDevices: Math.max(1, cores), isOneMachine: true }];
}

export const accelerators: readonly Accelerator[] = [cpuAccelerator, ...gpuAccelerators];

/** The accelerator of a name, or undefined. */
export function findAccelerator(name: string): Accelerator | undefined {
  return accelerators.find((accelerator) => accelerator.name === name.toLowerCase());
}

/** What is assumed when the caller names no cluster: any GPU of the table, up to eight nodes of it. */
export const assumedSupply: readonly AcceleratorSupply[] = gpuAccelerators.map((accelerator) => ({
  accelerator,
  maxDevices: accelerator.devicesPerNode * 8,
}));
