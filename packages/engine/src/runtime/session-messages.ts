import type { InferenceSession } from "onnxruntime-node";

/** A tensor on its way to or from the session thread. Data in shared memory is not copied. */
export interface SentTensor {
  readonly name: string;
  readonly data: Float32Array | BigInt64Array | Uint8Array;
  readonly shape: readonly number[];
}

/** What the session thread can be asked. */
export type SessionRequest =
  | { readonly kind: "open"; readonly model: Uint8Array; readonly options: InferenceSession.SessionOptions }
  | {
      readonly kind: "run";
      readonly session: number;
      readonly feeds: readonly SentTensor[];
      /** Outputs that are written into shared memory. */
      readonly targets: readonly SentTensor[];
      /** Outputs that are sent back. */
      readonly wanted: readonly string[];
    }
  | { readonly kind: "close"; readonly session: number };

export type SessionAnswer =
  | { readonly kind: "opened"; readonly session: number }
  | { readonly kind: "ran"; readonly outputs: readonly SentTensor[] }
  | { readonly kind: "closed" };
