import type { ElementType } from "./ort-library.ts";

/** Where graphs run. `cpu` is there so that everything but NVIDIA's libraries can be tested where no GPU is. */
export type DeviceKind = "cpu" | "cuda";

export interface DeviceSettings {
  readonly kind: DeviceKind;
  /** Number of the GPU. */
  readonly index: number;
  /** Bytes of device memory that may be used; absent = all. */
  readonly memoryLimitBytes?: number;
  /** Threads of what runs on the CPU. */
  readonly threads: number;
  /** What matrix products compute in; master weights, moments, norms, softmax and loss are float32 always. */
  readonly matrices: "float32" | "bfloat16" | "float16";
}

/** An array of the host on its way. Half-precision values travel as their 16 bits. */
export interface HostTensor {
  readonly name: string;
  readonly data: Float32Array | BigInt64Array | Uint16Array | Uint8Array;
  readonly shape: readonly number[];
  /** Of the elements, where the array does not say it: `float16` or `bfloat16` of a `Uint16Array`. */
  readonly type: ElementType;
}

export type DeviceRequest =
  | { readonly kind: "start"; readonly settings: DeviceSettings }
  | { readonly kind: "open"; readonly model: Uint8Array; readonly session: number }
  /** Copies an array to the device under its name, in place of what had that name. */
  | { readonly kind: "put"; readonly tensor: HostTensor }
  /** Copies an array of the device into shared memory of the host. */
  | { readonly kind: "get"; readonly name: string; readonly into: HostTensor }
  | { readonly kind: "drop"; readonly names: readonly string[] }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly feeds: readonly HostTensor[];
      /** Inputs that are on the device: name in the graph → name there. */
      readonly stored: Readonly<Record<string, string>>;
      /** Outputs that are written into arrays of the device that exist and have their size. */
      readonly inPlace: Readonly<Record<string, string>>;
      /** Outputs that become arrays of the device, in place of what had that name. */
      readonly kept: Readonly<Record<string, string>>;
      /** float32 outputs that come back, with their shapes. */
      readonly wanted: readonly { readonly name: string; readonly shape: readonly number[] }[];
    }
  | { readonly kind: "close"; readonly session: number }
  | { readonly kind: "count" };

export type DeviceAnswer =
  | { readonly kind: "done" }
  | { readonly kind: "ran"; readonly outputs: Readonly<Record<string, Float32Array>> }
  /** What is held on the device: arrays and their bytes. */
  | { readonly kind: "counted"; readonly tensors: number; readonly bytes: number };
