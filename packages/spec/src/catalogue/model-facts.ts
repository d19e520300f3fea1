import type { Architecture } from "./architecture.ts";

export type Mode = "lora" | "full";
export type BaseWeights = "bf16" | "int8" | "nf4";

/** Formats that folders hold and Drydock reads. */
export const storedFormats = ["nf4", "fp4", "int4", "int8"] as const;
export type StoredFormat = (typeof storedFormats)[number];

/** How a family writes boxes in text. The picture's own fractions are converted when tokens are made. */
export type BoxConvention =
  /** JSON `bbox_2d`, integers 0–1000 of the original picture (Qwen3-VL, Qwen3.5). */
  | "json-relative-1000"
  /** JSON `bbox_2d`, absolute pixels of the resized picture (Qwen2.5-VL, Cosmos-Reason1). */
  | "json-resized-pixels"
  /** `<ref>…</ref><box>[[x1,y1,x2,y2]]</box>`, 0–1000 (InternVL). */
  | "internvl-ref-box"
  /** `<loc0012><loc0000><loc0345><loc1023> phrase`: top, left, bottom, right in bins of 1/1024; ` ; ` between (PaliGemma). */
  | "paligemma-loc"
  /** Not documented by the model's makers. */
  | "undocumented";

/** Whether a fact was compared with the published checkpoint's own files, or comes from agreeing copies, or is inferred. */
export type Provenance = "published-config" | "agreeing-copies" | "inferred";

/** Everything Drydock knows about a base model before it opens its files. */
export interface ModelFacts {
  /** Catalogue name, lower case. */
  readonly name: string;
  readonly title: string;
  readonly family:
    | "qwen3-vl"
    | "qwen2.5-vl"
    | "qwen3.5"
    | "internvl3.5"
    | "nvila-lite"
    | "llava"
    | "paligemma"
    | "mllama";
  /** Repository on the Hugging Face hub; null for a model that Drydock ships. */
  readonly repository: string | null;
  readonly license: string;
  /** Tokens of prompt and answer together. */
  readonly contextWindow: number;
  readonly modes: readonly Mode[];
  /** Why a mode is missing from `modes`; shown in the refusal. */
  readonly modeRefusal: string | null;
  readonly boxConvention: BoxConvention;
  readonly architecture: Architecture;
  /** Format of the decoder's linear layers, of a folder that stores them in few bits; absent = as plain numbers. */
  readonly storedIn?: StoredFormat;
  readonly provenance: { readonly level: Provenance; readonly note: string };
}
