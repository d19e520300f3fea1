import type { Task } from "../contract/common.ts";

/**
 * Characters of a token, for when no tokenizer is at hand. Low on purpose, so that the estimate errs upward: English
 * prose has about 4 characters a token in the vocabularies of the catalogue, JSON with digits about 2.
 */
const charactersPerToken = { prose: 3.2, boxes: 2 } as const;

/** Positions of one turn's frame: `<|im_start|>role\n` … `<|im_end|>\n`. */
const tokensPerTurn = 5;

/** Characters assumed of a task's default system prompt when the caller does not say what it is. */
export const assumedSystemPromptCharacters: Record<Task, number> = { "phrase-grounding": 900, vqa: 600, chat: 0 };

export interface TextSizes {
  readonly systemPromptCharacters: number;
  readonly promptCharacters: number;
  readonly answerCharacters: number;
  /** Exact counts from a tokenizer, where known; they take the place of the characters. */
  readonly promptTokens?: number | undefined;
  readonly answerTokens?: number | undefined;
}

export interface TextTokens {
  readonly prompt: number;
  readonly answer: number;
  readonly total: number;
  /** True when at least one count comes from characters. */
  readonly isEstimate: boolean;
}

/** Text tokens of one sample with one question and one answer: an estimate unless both counts are given. */
export function textTokens(task: Task, sizes: TextSizes): TextTokens {
  const answerCharactersPerToken = task === "phrase-grounding" ? charactersPerToken.boxes : charactersPerToken.prose;
  const system =
    sizes.systemPromptCharacters === 0
      ? 0
      : Math.ceil(sizes.systemPromptCharacters / charactersPerToken.prose) + tokensPerTurn;
  const prompt =
    system + (sizes.promptTokens ?? Math.ceil(sizes.promptCharacters / charactersPerToken.prose)) + tokensPerTurn;
  const answer = (sizes.answerTokens ?? Math.ceil(sizes.answerCharacters / answerCharactersPerToken)) + tokensPerTurn;
  return {
    prompt,
    answer,
    total: prompt + answer,
    isEstimate: sizes.promptTokens === undefined || sizes.answerTokens === undefined || system > 0,
  };
}
