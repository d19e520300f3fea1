import { defaultMetrics, detailsInTurns, scoreSamples } from "@drydock/data";
import type { ObjectStorage } from "@drydock/kit";
import {
  SampleResult,
  detailsKeyOf,
  resultsKeyOf,
  type EvaluationDetails,
  type EvaluationSpec,
  type Scores,
} from "@drydock/spec";

export interface JoinedShards {
  readonly scores: Scores;
  readonly details: EvaluationDetails;
  readonly samples: number;
}

/**
 * Puts the rows of all shards back into the order of the validation split, scores them as one, and stores rows and details as
 * a single worker would have. Doing it again writes the same.
 *
 * @throws NotFoundError when a shard's rows are not there; UnavailableError when storage does not answer
 */
export async function joinShards(
  storage: ObjectStorage,
  evaluationId: string,
  spec: EvaluationSpec,
): Promise<JoinedShards> {
  const count = spec.shards ?? 1;
  const parts: SampleResult[][] = [];
  for (let index = 0; index < count; index++)
    parts.push(parseRows(await storage.get(resultsKeyOf(evaluationId, { index, count }))));
  const samples = interleave(parts);
  const metrics = spec.metrics ?? defaultMetrics[spec.task];
  const { scores, perSample } = scoreSamples(spec.task, metrics, samples);
  const details = await detailsInTurns(metrics, samples);
  const rows = samples.map((sample, index) => ({ ...sample, scores: perSample[index] ?? {} }));
  const key = resultsKeyOf(evaluationId);
  await storage.put(detailsKeyOf(key), JSON.stringify(details));
  await storage.put(key, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return { scores, details, samples: samples.length };
}

function parseRows(content: Uint8Array): SampleResult[] {
  const lines = Buffer.from(content).toString("utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => SampleResult.parse(JSON.parse(line)));
}

/** The first rows of all parts, then the second ones, and so on: how shards were dealt. */
export function interleave<T>(parts: readonly (readonly T[])[]): T[] {
  const longest = Math.max(0, ...parts.map(({ length }) => length));
  return Array.from({ length: longest }, (_, place) => parts.flatMap((part) => part.slice(place, place + 1))).flat();
}
