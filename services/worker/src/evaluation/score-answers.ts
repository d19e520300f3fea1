import {
  checkMetrics,
  defaultMetrics,
  detailsOf,
  parseGroundings,
  scoreSamples,
  writeGroundings,
  type BoxSpace,
} from "@drydock/data";
import type { DataRecord, SampleResult, Task } from "@drydock/spec";
import type { Answerer } from "../training/trainer.ts";
import type { Scoring } from "./validation-evaluator.ts";

export interface Scorer {
  /** The first is the headline. */
  readonly metrics: readonly string[];
  /** @param spaceOf  how the model writes boxes for a record's picture */
  score(records: readonly DataRecord[], answers: readonly string[], spaceOf: Answerer["boxSpaceOf"]): Scoring;
}

/**
 * Scores answers by the task's metrics: boxes are read from the text in the model's own convention.
 *
 * @throws InvalidError `unknown_metric` naming a metric that the task does not have
 */
export function scorerOf(task: Task, metrics: readonly string[] = defaultMetrics[task]): Scorer {
  checkMetrics(task, metrics);
  return {
    metrics,
    score: (records, answers, spaceOf) => {
      const samples = records.map((record, index) => sampleOf(task, record, answers[index] ?? "", spaceOf(record)));
      const { scores, perSample } = scoreSamples(task, metrics, samples);
      return {
        scores,
        results: samples.map((sample, index) => ({ ...sample, scores: perSample[index] ?? {} })),
        details: () => detailsOf(metrics, samples),
      };
    },
  };
}

function sampleOf(task: Task, record: DataRecord, answer: string, space: BoxSpace): Omit<SampleResult, "scores"> {
  const [image] = record.images;
  const asksForBoxes = task === "phrase-grounding";
  const parsed = asksForBoxes ? parseGroundings(answer, space) : { groundings: [], isParsable: true };
  // A conversation that was not imported as groundings has its boxes in the text of the right answer.
  const groundings =
    record.groundings ?? (asksForBoxes ? parseGroundings(lastContent(record, "assistant"), space).groundings : []);
  return {
    rowId: record.rowId,
    ...(record.tags && { tags: record.tags }),
    imageKey: image?.key ?? null,
    fileName: image?.fileName ?? null,
    width: image?.width ?? null,
    height: image?.height ?? null,
    prompt: lastContent(record, "user").replaceAll("<image>", "").trim(),
    expected: asksForBoxes ? writeGroundings(groundings, space) : lastContent(record, "assistant"),
    answer,
    expectedGroundings: asksForBoxes ? groundings : [],
    answeredGroundings: parsed.groundings,
    isParsable: parsed.isParsable,
  };
}

function lastContent({ messages }: DataRecord, role: "user" | "assistant"): string {
  return messages.findLast((message) => message.role === role)?.content ?? "";
}
