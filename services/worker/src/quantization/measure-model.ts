import { availableParallelism } from "node:os";
import { loadModel, openModelFolder, TokenLoss, type ModelBatch } from "@drydock/engine";
import { type DataRecord, type Scores, type Task } from "@drydock/spec";
import { answerWith } from "../engine/answer-questions.ts";
import { RecordEncoder } from "../engine/record-encoder.ts";
import { scorerOf } from "../evaluation/score-answers.ts";
import { answeredAtOnce } from "../evaluation/validation-evaluator.ts";
import type { LocalRows } from "../rows/read-rows.ts";

export interface MeasureSettings {
  readonly task: Task;
  readonly metrics: readonly string[] | undefined;
  readonly systemPrompt: string;
  readonly image: { readonly minPixels?: number | undefined; readonly maxPixels?: number | undefined };
  readonly maxNewTokens: number;
}

export interface ModelMeasure {
  /** exp of the mean −log p of the answers' tokens, given what stands before them. */
  readonly perplexity: number;
  /** Label tokens that the perplexity is of. */
  readonly tokens: number;
  /** Of greedy answers, in percent or as the metric says. */
  readonly scores: Scores;
  readonly seconds: number;
}

/** Perplexity of the right answers and scores of a model's own, on the rows given. */
export async function measureModel(
  directory: string,
  records: readonly DataRecord[],
  { pathOf }: Pick<LocalRows, "pathOf">,
  settings: MeasureSettings,
): Promise<ModelMeasure> {
  const startedMs = performance.now();
  const { folder, generator } = await loadModel({ directory, threads: availableParallelism() });
  try {
    const { image, systemPrompt } = settings;
    const encoder = await RecordEncoder.open({ directory, model: folder.model, image, systemPrompt, pathOf });
    const { loss, tokens } = await new TokenLoss(folder, availableParallelism()).sum(
      batchesOf(encoder, records, answeredAtOnce),
    );
    const { score } = scorerOf(settings.task, settings.metrics);
    const answers: string[] = [];
    for (let start = 0; start < records.length; start += answeredAtOnce) {
      const questions = records.slice(start, start + answeredAtOnce).map((record) => ({ record }));
      answers.push(...(await answerWith(generator, encoder, questions, settings)));
    }
    const { scores } = score(records, answers, (record) => encoder.boxSpaceOf(record));
    return { perplexity: Math.exp(loss / tokens), tokens, scores, seconds: (performance.now() - startedMs) / 1000 };
  } finally {
    await generator.close();
  }
}

/** What each linear layer is given by the rows, see `TokenLoss.inputPower`. */
export async function measureInputs(
  directory: string,
  records: readonly DataRecord[],
  { pathOf }: Pick<LocalRows, "pathOf">,
  { image, systemPrompt }: Pick<MeasureSettings, "image" | "systemPrompt">,
): ReturnType<TokenLoss["inputPower"]> {
  const folder = await openModelFolder(directory);
  const encoder = await RecordEncoder.open({ directory, model: folder.model, image, systemPrompt, pathOf });
  return await new TokenLoss(folder, availableParallelism()).inputPower(batchesOf(encoder, records, 1));
}

async function* batchesOf(
  encoder: RecordEncoder,
  records: readonly DataRecord[],
  rowsAtOnce: number,
): AsyncGenerator<ModelBatch> {
  for (let start = 0; start < records.length; start += rowsAtOnce)
    yield await encoder.trainingBatch(records.slice(start, start + rowsAtOnce));
}
