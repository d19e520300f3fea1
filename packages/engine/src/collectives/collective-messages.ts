import type { NumberArray } from "./collective.ts";
import type { RingOptions, Traffic } from "./tcp-ring.ts";

/** What the collective thread can be asked. Numbers are in shared memory and are not copied. */
export type CollectiveRequest =
  | { readonly kind: "listen"; readonly host: string; readonly port: number }
  | { readonly kind: "connect"; readonly options: RingOptions; readonly gpu: number | null }
  | {
      readonly kind: "run";
      readonly operation: "allReduceSum" | "reduceScatterSum" | "allGather";
      readonly buffers: readonly NumberArray[];
    }
  | { readonly kind: "broadcast"; readonly buffers: readonly NumberArray[]; readonly root: number }
  | { readonly kind: "barrier" }
  | { readonly kind: "traffic" }
  | { readonly kind: "close"; readonly failure: string | undefined };

/** A lost rank and a refusal travel as data, since an error's class does not survive the way between threads. */
export type CollectiveAnswer =
  | { readonly kind: "done" }
  | { readonly kind: "listening"; readonly address: string }
  | { readonly kind: "traffic"; readonly traffic: Traffic }
  | { readonly kind: "lost"; readonly rank: number; readonly why: string }
  | { readonly kind: "refused"; readonly code: string; readonly message: string };
