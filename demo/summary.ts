import type { Scores } from "@drydock/spec";

/** What one model of the demo reached, and what it took. */
export interface ModelSummary {
  /** Per cent, on validation pictures: `f1@0.5` and others by boxes, `exact-match` and others by names. */
  readonly scores: Scores;
  /** Of training; of evaluating for the base, which is not trained. */
  readonly seconds: number;
  /** Tokens trained on a second, pictures included; null for the base. */
  readonly tokensPerSecond: number | null;
  /** Peak resident memory of the worker; null for the base. */
  readonly peakMemoryBytes: number | null;
}

export interface DemoSummary {
  readonly base: ModelSummary;
  readonly lora: ModelSummary;
  readonly full: ModelSummary;
  readonly dataset: {
    readonly trainingRows: number;
    readonly validationRows: number;
    readonly trainingArtwork: readonly string[];
    readonly heldOutArtwork: string;
  };
  readonly totalSeconds: number;
  readonly createdAt: string;
}

/** The before/after table: a metric a row, a model a column, and what training gained. */
export function scoreRows({ base, lora, full }: DemoSummary, metrics: readonly string[]): (string | number)[][] {
  return metrics.map((metric) => {
    const [before, ...after] = [base, lora, full].map(({ scores }) => scores[metric] ?? 0);
    return [
      metric,
      before!.toFixed(1),
      ...after.map(
        (score) => `${score.toFixed(1)} (${score - before! >= 0 ? "+" : ""}${(score - before!).toFixed(1)})`,
      ),
    ];
  });
}
