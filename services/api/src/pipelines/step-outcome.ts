import type { PipelineAdvance, PipelineResults } from "@drydock/spec";
import type { Rollback } from "../registry/roll-back.ts";
import type { Database } from "../store/database.ts";

/** What a step comes to when it is looked at. */
export type StepOutcome =
  /** Its work goes on. */
  | { readonly kind: "wait" }
  /** Its work is to be written and started, in the transaction that notes it. */
  | { readonly kind: "start"; readonly write: (tx: Database) => Promise<Partial<PipelineResults>> }
  | { readonly kind: "done"; readonly message: string; readonly results?: Partial<PipelineResults> }
  /** What it builds on is not true any more: that step and those after it are done again. */
  | { readonly kind: "repeat"; readonly from: "evaluate"; readonly message: string }
  | {
      readonly kind: "end";
      readonly state: "refused" | "failed";
      readonly message: string;
      readonly results?: Partial<PipelineResults>;
    }
  /** The version before is put into production again, in the transaction that ends the run. */
  | { readonly kind: "roll-back"; readonly rollback: Rollback }
  /** Only the controller can do it: it verifies the files, then asks the registry, which notes it here. */
  | Extract<PipelineAdvance, { kind: "promote" }>;
