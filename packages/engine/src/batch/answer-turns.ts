import { InvalidError } from "@drydock/kit";
import type { TurnMarks } from "../models/model.ts";
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
export function turnWriter(
  turns: TurnMarks | "rendered",
  template: ChatTemplate,
  tokenizer: TextTokenizer,
): TurnWriter {
  return turns === "rendered" ? renderedTurns(template, tokenizer) : markedTurns(turns, template, tokenizer);
}

/** Tokens within which the newline of a turn's header must come; byte-sized tokens included. */
const longestHeader = 24;

/** Turns that a special token opens: the tokens alone say where answers lie. */
function markedTurns(marks: TurnMarks, template: ChatTemplate, tokenizer: TextTokenizer): TurnWriter {
  const startId = tokenizer.idOf(marks.start);
  const endId = tokenizer.idOf(marks.end);
  /** Where the content of an assistant turn starts, null for other turns: after the newline that ends its header. */
  const contentStart = (ids: readonly number[], start: number): number | null => {
    for (let end = start + 2; end <= Math.min(start + longestHeader, ids.length); end++) {
      const header = tokenizer.decode(ids.slice(start + 1, end));
      if (header.includes("\n")) return header.startsWith(marks.answerHeader) ? end : null;
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
        answers.push([first, behindEnd(ids, endId, first)]);
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
