import { createInterface } from "node:readline";
import { ConflictError, UnprocessableError, type ObjectStorage } from "@drydock/kit";
import { SampleResult, type Evaluation } from "@drydock/spec";

/** Rows that are read at once, some hundred megabytes; larger evaluations are read page by page. */
export const mostRows = 50_000;

/**
 * Every row of an evaluation that is over.
 *
 * @throws ConflictError `evaluation_not_finished`, `no_rows_kept`
 * @throws UnprocessableError `too_many_rows`
 */
export async function readAllSamples(storage: ObjectStorage, evaluation: Evaluation): Promise<SampleResult[]> {
  const { id, state, message, resultsKey } = evaluation;
  if (state !== "succeeded") {
    const why =
      state === "failed" || state === "cancelled"
        ? `${state === "failed" ? "failed" : "was cancelled"} (${message}): make a new one`
        : `is ${state === "queued" ? "waiting to start" : "still running"}: wait until it has succeeded`;
    throw new ConflictError("evaluation_not_finished", `evaluation ${id} ${why}`);
  }
  if (resultsKey === null)
    throw new ConflictError("no_rows_kept", `evaluation ${id} kept no rows, only scores: evaluate the model again`);
  const samples: SampleResult[] = [];
  for await (const line of createInterface({ input: await storage.read(resultsKey), crlfDelay: Infinity })) {
    if (line === "") continue;
    if (samples.length === mostRows)
      throw new UnprocessableError(
        "too_many_rows",
        `evaluation ${id} has more than ${mostRows} rows, too many at once: read them with GET /v1/evaluations/${id}/samples`,
      );
    samples.push(SampleResult.parse(JSON.parse(line)));
  }
  return samples;
}
