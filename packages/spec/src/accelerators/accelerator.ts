/** One kind of device that a rank can train on. */
export interface Accelerator {
  /** As in a run spec: `nvidia-h100-80gb`. */
  readonly name: string;
  readonly title: string;
  readonly kind: "gpu" | "cpu";
  /** What the driver reports as total, not the number in the product's name. */
  readonly memoryBytes: number;
  /** Dense bf16 matrix throughput in TFLOP/s as the vendor states it (no sparsity); for `cpu` an assumption. */
  readonly bf16Teraflops: number;
  /** Memory bandwidth in GB/s. */
  readonly bandwidthGigabytesPerSecond: number;
  /** Devices in one usual node. */
  readonly devicesPerNode: number;
  /** Price of one device for an hour; null for one's own computer. Always an assumption unless the operator set it. */
  readonly pricePerHour: Price | null;
}

export interface Price {
  readonly amount: number;
  readonly currency: string;
  /** True for the figures that come with Drydock: orders of magnitude of on-demand prices, to be overridden. */
  readonly isAssumption: boolean;
}

/** What an operator may change of an accelerator, by name. */
export interface AcceleratorOverride {
  readonly memoryBytes?: number;
  readonly devicesPerNode?: number;
  readonly pricePerHour?: { readonly amount: number; readonly currency: string };
  readonly bf16Teraflops?: number;
}

/** An accelerator with an operator's own figures; a price given here is no longer an assumption. */
export function overrideAccelerator(accelerator: Accelerator, override: AcceleratorOverride): Accelerator {
  return {
    ...accelerator,
    memoryBytes: override.memoryBytes ?? accelerator.memoryBytes,
    devicesPerNode: override.devicesPerNode ?? accelerator.devicesPerNode,
    bf16Teraflops: override.bf16Teraflops ?? accelerator.bf16Teraflops,
    pricePerHour:
      override.pricePerHour === undefined
        ? accelerator.pricePerHour
        : { ...override.pricePerHour, isAssumption: false },
  };
}

/** Accelerators that a cluster has, and how many nodes of each. */
export interface AcceleratorSupply {
  readonly accelerator: Accelerator;
  /** Upper bound of devices that one run may hold. */
  readonly maxDevices: number;
  /**
   * The devices are shares of one machine: each of n gets an n-th of the memory and of the speed that `accelerator` says.
   * More than one only when a run asks for them, since they make nothing fit and nothing faster.
   */
  readonly isOneMachine?: true;
}

/** One of `shares` equal parts of a machine. */
export function shareOfMachine(accelerator: Accelerator, shares: number): Accelerator {
  return {
    ...accelerator,
    memoryBytes: Math.floor(accelerator.memoryBytes / shares),
    bf16Teraflops: accelerator.bf16Teraflops / shares,
    bandwidthGigabytesPerSecond: accelerator.bandwidthGigabytesPerSecond / shares,
  };
}
