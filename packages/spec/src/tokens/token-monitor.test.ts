import { expect, test } from "vitest";
import { findModel } from "../catalogue/catalogue.ts";
import { textTokens } from "./text-tokens.ts";
import { profileTokens, statisticsOf, type TokenQuestion } from "./token-monitor.ts";

const scheme = findModel("qwen3-vl-4b")?.architecture.visualTokens ?? null;
const question: TokenQuestion = {
  scheme,
  task: "vqa",
  contextWindow: 1000,
  limits: {},
  systemPromptCharacters: 0,
  statistics: null,
};
const sample = (
  width: number,
  height: number,
  tokens: number,
): NonNullable<TokenQuestion["statistics"]>["samples"][number] => ({
  images: [[width, height]],
  promptCharacters: 1,
  answerCharacters: 1,
  promptTokens: tokens,
  answerTokens: 3,
});

test("p50, p95 and max are nearest ranks", () => {
  expect(statisticsOf(Array.from({ length: 100 }, (_, index) => 100 - index))).toEqual({ p50: 50, p95: 95, max: 100 });
  expect(statisticsOf([7])).toEqual({ p50: 7, p95: 7, max: 7 });
  expect(statisticsOf([])).toEqual({ p50: 0, p95: 0, max: 0 });
});

test("tokenizer counts are exact and the monitor says so; characters make an estimate", () => {
  const exact = profileTokens({ ...question, statistics: { samples: [sample(640, 480, 20)] } });
  expect(exact.monitor).toMatchObject({
    basis: "data",
    samples: 1,
    textIsEstimate: false,
    visual: { max: 302 },
    text: { max: 20 + 3 + 10 },
  });
  const estimated = profileTokens({
    ...question,
    statistics: { samples: [{ images: [[640, 480]], promptCharacters: 320, answerCharacters: 32 }] },
  });
  expect(estimated.monitor).toMatchObject({ textIsEstimate: true, text: { max: 100 + 10 + 10 } });
});

test("rows over the window are counted and leave no trace in what training is sized for", () => {
  const { monitor, longest } = profileTokens({
    ...question,
    statistics: { samples: [sample(640, 480, 20), sample(640, 480, 5000)] },
  });
  expect(monitor).toMatchObject({ overWindow: 1, samples: 2, total: { max: 302 + 5013 } });
  expect(longest.total).toBe(302 + 33);
});

test("rows with a picture that the family refuses are counted apart", () => {
  const { tooThin, monitor } = profileTokens({
    ...question,
    statistics: { samples: [sample(10, 2010, 20), sample(640, 480, 20)] },
  });
  expect(tooThin).toBe(1);
  expect(monitor).toMatchObject({ samples: 2, overWindow: 0 });
});

test("without data one picture is assumed and the basis says so", () => {
  expect(profileTokens(question).monitor).toMatchObject({ basis: "assumption", samples: 0 });
});

test("boxes take more tokens a character than prose, and the system prompt counts", () => {
  const sizes = { systemPromptCharacters: 0, promptCharacters: 64, answerCharacters: 64 };
  expect(textTokens("phrase-grounding", sizes).answer).toBe(32 + 5);
  expect(textTokens("vqa", sizes).answer).toBe(20 + 5);
  expect(textTokens("vqa", { ...sizes, systemPromptCharacters: 320 }).prompt).toBe(105 + 20 + 5);
});
