import { defaultMetrics, thumbnail } from "@drydock/data";
import { NotFoundError, type ObjectStorage } from "@drydock/kit";
import type { Evaluation, SampleResult } from "@drydock/spec";
import { pictureKeyOf } from "../evaluations/picture-key.ts";
import type { EvaluationReport, ShownRow } from "./evaluation-html.ts";

export interface RowChoice {
  readonly rows: number;
  /** `file` = as they stand in the data set, `worst` = those with the lowest headline score first. */
  readonly order: "file" | "worst";
}

/** Pictures are shown 340 pixels wide, on finer screens twice as fine. */
const pictureSidePixels = 680;
/** Data URLs of one report at most; further rows have no picture. */
const pictureBudgetCharacters = 40_000_000;

/** Chooses rows and fetches their pictures, small, one after the other. */
export async function collectRows(
  storage: ObjectStorage,
  evaluation: Evaluation,
  samples: readonly SampleResult[],
  { rows: most, order }: RowChoice,
): Promise<EvaluationReport> {
  const { spec } = evaluation;
  const headline = spec.metrics?.[0] ?? defaultMetrics[spec.task][0] ?? "exact-match";
  const scoreOf = (sample: SampleResult): number => sample.scores[headline] ?? 0;
  const ordered = order === "worst" ? samples.toSorted((first, second) => scoreOf(first) - scoreOf(second)) : samples;
  const shown: ShownRow[] = [];
  let characters = 0;
  for (const sample of ordered.slice(0, most)) {
    const picture = characters > pictureBudgetCharacters ? null : await pictureOf(storage, sample);
    characters += picture?.length ?? 0;
    shown.push({ sample, picture });
  }
  const which = order === "worst" ? `those with the lowest ${headline} first` : "in the order of the data set";
  const choice =
    shown.length === samples.length
      ? `All ${samples.length} rows, ${which}.`
      : `${shown.length} of ${samples.length} rows, ${which}.`;
  return { evaluation, rows: shown, choice, headline };
}

async function pictureOf(storage: ObjectStorage, sample: SampleResult): Promise<string | null> {
  const key = pictureKeyOf(sample);
  if (key === null) return null;
  try {
    return await thumbnail(await storage.get(key), pictureSidePixels);
  } catch (error) {
    // The data set was removed meanwhile: the report still has the answers.
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}
