import { InvalidError } from "@drydock/kit";
import type { SlicedSample } from "./slices.ts";

/** An answered row that can be found again in another evaluation. */
export interface IdentifiedSample extends SlicedSample {
  readonly rowId: string;
}

export interface PairedSamples<Sample extends IdentifiedSample> {
  /** Rows that both have, in the order of `a`; the two lists belong together place by place. */
  readonly a: readonly Sample[];
  readonly b: readonly Sample[];
  readonly onlyInA: number;
  readonly onlyInB: number;
}

/**
 * Matches rows by `rowId`. A row that comes twice counts once.
 *
 * @throws InvalidError `no_common_rows`
 */
export function pairSamples<Sample extends IdentifiedSample>(
  samplesA: readonly Sample[],
  samplesB: readonly Sample[],
): PairedSamples<Sample> {
  const [byIdA, byIdB] = [byRowId(samplesA), byRowId(samplesB)];
  const a: Sample[] = [];
  const b: Sample[] = [];
  for (const [rowId, sample] of byIdA) {
    const other = byIdB.get(rowId);
    if (!other) continue;
    a.push(sample);
    b.push(other);
  }
  if (a.length === 0)
    throw new InvalidError(
      "no_common_rows",
      `the two have no row in common (${byIdA.size} and ${byIdB.size} rows): compare evaluations of the same validation split`,
    );
  return { a, b, onlyInA: byIdA.size - a.length, onlyInB: byIdB.size - a.length };
}

function byRowId<Sample extends IdentifiedSample>(samples: readonly Sample[]): Map<string, Sample> {
  const rows = new Map<string, Sample>();
  for (const sample of samples) if (!rows.has(sample.rowId)) rows.set(sample.rowId, sample);
  return rows;
}
