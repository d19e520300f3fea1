import { InvalidError } from "@drydock/kit";
import type { Model, TurnMarks } from "../models/model.ts";
import type { ChatMessage, ChatTemplate } from "../text/chat-template.ts";
import type { TextTokenizer } from "../text/tokenizer.ts";

/** A conversation as a template writes it, with its answers. Pictures are one token each still. */
export interface WrittenTurns {
  readonly ids: readonly number[];
  /** Each answer from its first token to behind the token that ends it. */
  readonly answers: readonly (readonly [number, number])[];
}

/** Writes conversations and knows where their answers lie. */
export interface TurnWriter {
  /** The token that ends an answer. */
  readonly endId: number;
  /** What messages call the form that answers must have. */
  readonly form: string;
  /** @throws InvalidError (`bad_chat_template`) when the template cannot write the conversation so */
  write(name: string, messages: readonly ChatMessage[], forAnswer: boolean): WrittenTurns;
}

/** @throws InvalidError when the tokenizer lacks the token that opens or ends a turn */
export function turnWriter(turns: Model["turns"], template: ChatTemplate, tokenizer: TextTokenizer): TurnWriter {
  if (turns === "rendered") return renderedTurns(template, tokenizer);
  return turns === "continued" ? continuedTurn(template, tokenizer) : markedTurns(turns, template, tokenizer);
}

/** Tokens within which the newline of a turn's header must come; byte-sized tokens included. */
const longestHeader = 24;

/** What templates of models that may think write in front of an answer that comes without thoughts. */
const emptyThought = "<think>\n\n</think>\n\n";

/** Turns that a special token opens: the tokens alone say where answers lie. */
function markedTurns(marks: TurnMarks, template: ChatTemplate, tokenizer: TextTokenizer): TurnWriter {
  const startId = tokenizer.idOf(marks.start);
  const endId = tokenizer.idOf(marks.end);
  const thought = tokenizer.encode(emptyThought);
  /** Where the content of an assistant turn starts, null for other turns: after the newlines that end its header. */
  const contentStart = (ids: readonly number[], start: number): number | null => {
    for (let end = start + 2; end <= Math.min(start + longestHeader, ids.length); end++) {
      const header = tokenizer.decode(ids.slice(start + 1, end));
      if (header.startsWith(marks.answerHeader)) return end;
      if (header.includes("\n") && !marks.answerHeader.startsWith(header)) return null;
    }
    return null;
  };
  return {
    endId,
    form: `begin with ${JSON.stringify(marks.start + marks.answerHeader)}`,
    write: (_name, messages, forAnswer) => {
      const ids = tokenizer.encodeRendered(template.render(messages, forAnswer));
      const answers: [number, number][] = [];
      ids.forEach((id, position) => {
        const first = id === startId ? contentStart(ids, position) : null;
        if (first === null) return;
        answers.push([behindThought(ids, first, thought), behindEnd(ids, endId, first)]);
      });
      return { ids, answers };
    },
  };
}

/**
 * Turns of templates without such a token (`USER: … ASSISTANT: …`): an answer is what the template writes more when it is given
 * the answer too. Where the template ends it with no special token, the tokenizer's end token takes the place of what follows
 * the answer (a space), in prompts as in trained rows: LLaVA's makers write `ASSISTANT: …</s>USER: …`, and a model that saw no
 * end would never stop. A prompt without earlier answers is the template's own.
 */
function renderedTurns(template: ChatTemplate, tokenizer: TextTokenizer): TurnWriter {
  const ending = answerEnding(template, tokenizer);
  const endId = tokenizer.idOf(ending.token);
  return {
    endId,
    form: "follow on what the template writes without them",
    write: (name, messages, forAnswer) => {
      const whole = template.render(messages, forAnswer);
      const starts: number[] = [];
      let text = "";
      let done = 0;
      messages.forEach(({ role }, index) => {
        if (role !== "assistant") return;
        const before = template.render(messages.slice(0, index), true);
        const through = template.render(messages.slice(0, index + 1), false);
        if (!through.startsWith(before) || !whole.startsWith(through) || before.length < done) throw rewrites(name);
        text += whole.slice(done, before.length);
        starts.push(text.length);
        text += ended(through.slice(before.length), ending);
        done = through.length;
      });
      text += whole.slice(done);
      const ids = tokenizer.encodeRendered(text);
      const answers = starts.map((start): [number, number] => {
        const first = commonStart(ids, tokenizer.encodeRendered(text.slice(0, start)));
        return [first, behindEnd(ids, endId, first)];
      });
      return { ids, answers };
    },
  };
}

/**
 * One prompt and the answer that follows it, with no token between them: what the template writes as the prompt, the answer, and
 * the tokenizer's end token. Both are tokenized by themselves, as processors do that take a prompt and its suffix, and the
 * template writes every special token.
 */
function continuedTurn(template: ChatTemplate, tokenizer: TextTokenizer): TurnWriter {
  if (tokenizer.endToken === null)
    throw new InvalidError(
      "bad_model_folder",
      "tokenizer_config.json names no eos_token, which ends the model's answers; use the files that came with the model",
    );
  const endId = tokenizer.idOf(tokenizer.endToken);
  return {
    endId,
    form: "end a conversation of one question",
    write: (name, messages, forAnswer) => {
      const last = messages.at(-1);
      const answer = last?.role === "assistant" && !forAnswer ? last : null;
      const asked = answer ? messages.slice(0, -1) : messages;
      const earlier = asked.filter(({ role }) => role === "assistant").length;
      if (earlier > 0)
        throw new InvalidError(
          "several_answers",
          `${name}: the model takes one question and its answer, but the conversation has ${earlier + (answer ? 1 : 0)} answers${answer ? "" : " before its question"}; make a row of each`,
        );
      const prompt = tokenizer.encode(template.render(asked, true));
      if (!answer) return { ids: prompt, answers: [] };
      const text = answer.content.map((part) => (part.type === "text" ? part.text : "")).join("");
      const ids = [...prompt, ...tokenizer.encode(text), endId];
      return { ids, answers: [[prompt.length, ids.length]] };
    },
  };
}

interface Ending {
  readonly token: string;
  /** What the template writes behind an answer, where that holds no special token; null = it writes `token` itself. */
  readonly replaces: string | null;
}

/** How a template ends an answer, by a conversation of one turn. */
function answerEnding(template: ChatTemplate, tokenizer: TextTokenizer): Ending {
  const answer = "answer";
  const messages: ChatMessage[] = [
    { role: "user", content: [{ type: "text", text: "question" }] },
    { role: "assistant", content: [{ type: "text", text: answer }] },
  ];
  const written = template.render(messages, false);
  const behind = written.slice(written.lastIndexOf(answer) + answer.length);
  const [first] = tokenizer.specialTokens
    .map((token) => ({ token, at: behind.indexOf(token) }))
    .filter(({ at }) => at >= 0)
    .toSorted((a, b) => a.at - b.at);
  if (first) return { token: first.token, replaces: null };
  if (tokenizer.endToken === null)
    throw new InvalidError(
      "bad_chat_template",
      "the chat template ends answers with no special token, and tokenizer_config.json names no eos_token; use the files that came with the model",
    );
  return { token: tokenizer.endToken, replaces: behind };
}

function ended(answer: string, { token, replaces }: Ending): string {
  if (replaces === null) return answer;
  return `${answer.endsWith(replaces) ? answer.slice(0, answer.length - replaces.length) : answer}${token}`;
}

/** Thoughts that are not there are part of the prompt, as in a prompt that asks for none: what follows them is the answer. */
function behindThought(ids: readonly number[], first: number, thought: readonly number[]): number {
  return thought.every((id, index) => ids[first + index] === id) ? first + thought.length : first;
}

/** The place behind the first end token from `first` on; behind the last token when there is none. */
function behindEnd(ids: readonly number[], endId: number, first: number): number {
  const end = ids.indexOf(endId, first);
  return end < 0 ? ids.length : end + 1;
}

/** Tokens that two lists begin with alike: the last ones of the shorter text may be written otherwise when it goes on. */
function commonStart(ids: readonly number[], start: readonly number[]): number {
  const different = start.findIndex((id, index) => ids[index] !== id);
  return different < 0 ? start.length : different;
}

function rewrites(name: string): InvalidError {
  return new InvalidError(
    "bad_chat_template",
    `${name}: the chat template writes earlier turns in another way when an answer follows, so that answers cannot be told from questions; use the template that came with the model`,
  );
}
