import { everyPage, folderFiles, type DrydockClient } from "@drydock/cli";
import { InvalidError, UnavailableError } from "@drydock/kit";
import type { DatasetVersion, Evaluation, ImportOptions, Scores } from "@drydock/spec";
import { boxesDataset, namesDataset, systemPrompt } from "./recipe.ts";

type ImportInput = Partial<ImportOptions>;

const pollMs = 400;

/** Both evaluations of one model. */
export interface Evaluated {
  readonly model: string;
  readonly scores: Scores;
  readonly seconds: number;
  readonly boxes: Evaluation;
  readonly names: Evaluation;
}

/** Makes a data set, sends a folder and waits until its rows are checked. @throws InvalidError with the server's reason when they are refused */
export async function importDataset(
  client: DrydockClient,
  name: string,
  folder: string,
  options: ImportInput,
  signal: AbortSignal,
): Promise<DatasetVersion> {
  await client.createDataset({ name, description: "Pictograms of food, made by the demo." });
  const upload = await client.uploadFiles(name, await folderFiles(folder));
  const created = await client.createVersion(name, upload.id, options);
  const version = await until(
    () => client.getVersion(name, created.version),
    ({ state }) => state !== "validating",
    signal,
  );
  if (version.state === "failed")
    throw new InvalidError("import_failed", `${name} was refused: ${version.reason ?? "no reason given"}`);
  return version;
}

/** Scores a model by boxes and by names, at the same time. */
export async function evaluate(client: DrydockClient, model: string, signal: AbortSignal): Promise<Evaluated> {
  const ask = async (dataset: string, task: "phrase-grounding" | "vqa"): Promise<Evaluation> => {
    const created = await client.createEvaluation({ model, dataset, task, systemPrompt, maxNewTokens: 32 });
    const evaluation = await until(
      () => client.getEvaluation(created.id),
      ({ state }) => state === "succeeded" || state === "failed",
      signal,
    );
    if (evaluation.state === "failed")
      throw new UnavailableError(
        "evaluation_failed",
        `the evaluation of ${model} on ${dataset} failed: ${evaluation.message}`,
      );
    return evaluation;
  };
  const [boxes, names] = await Promise.all([ask(boxesDataset, "phrase-grounding"), ask(namesDataset, "vqa")]);
  return {
    model,
    boxes,
    names,
    scores: { ...names.scores, ...boxes.scores },
    seconds: (boxes.seconds ?? 0) + (names.seconds ?? 0),
  };
}

/** What a run measured over all its steps. */
export interface RunMeasures {
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly peakMemoryBytes: number;
  readonly losses: readonly (readonly [step: number, loss: number])[];
}

export async function measuresOf(client: DrydockClient, runId: string): Promise<RunMeasures> {
  const metrics = await everyPage((query) => client.listMetrics(runId, query));
  const seconds = metrics.reduce((sum, metric) => sum + metric.seconds, 0);
  const tokens = metrics.reduce((sum, metric) => sum + metric.tokens, 0);
  return {
    seconds,
    tokensPerSecond: seconds === 0 ? 0 : tokens / seconds,
    peakMemoryBytes: Math.max(0, ...metrics.map(({ memoryBytes }) => memoryBytes)),
    losses: metrics.map(({ step, loss }) => [step, loss] as const),
  };
}

/** Asks again until the answer is the wanted one. @throws the signal's reason when it fires */
async function until<Answer>(
  ask: () => Promise<Answer>,
  isWanted: (answer: Answer) => boolean,
  signal: AbortSignal,
): Promise<Answer> {
  for (;;) {
    signal.throwIfAborted();
    const answer = await ask();
    if (isWanted(answer)) return answer;
    await new Promise((done) => setTimeout(done, pollMs));
  }
}
