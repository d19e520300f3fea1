import type { AnswerGenerator } from "@drydock/engine";
import type { AnswerOptions, Question } from "../training/trainer.ts";
import type { RecordEncoder } from "./record-encoder.ts";

/** Greedy answers to a batch of questions, in order, as text. */
export async function answerWith(
  generator: AnswerGenerator,
  encoder: RecordEncoder,
  questions: readonly Question[],
  { maxNewTokens }: AnswerOptions,
): Promise<string[]> {
  const batch = await encoder.questionBatch(
    questions.map(({ record }) => record),
    maxNewTokens,
  );
  const answers = await generator.answers(batch, { maxNewTokens, stopTokenIds: encoder.stopTokenIds });
  return answers.map((tokenIds) => encoder.decode(tokenIds).trim());
}
