import { createReadStream } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { TooLargeError } from "@drydock/kit";

/** Longest line that is read: a row with pictures in it, base64. */
const maxLineCharacters = 128 * 2 ** 20;

export interface TextLine {
  /** 1-based. */
  readonly line: number;
  readonly text: string;
}

/** Lines of a text file, one in memory at a time. @throws TooLargeError `line_too_long` naming file and line */
export async function* readLines(path: string, name: string): AsyncIterable<TextLine> {
  yield* splitLines(createReadStream(path, { highWaterMark: 2 ** 18 }), name);
}

/**
 * Lines of UTF-8 bytes; a byte-order mark and carriage returns are dropped. An error of the source is thrown, which
 * `node:readline` would not do.
 *
 * @throws TooLargeError `line_too_long` naming `name` and the line
 */
export async function* splitLines(chunks: AsyncIterable<unknown>, name: string): AsyncIterable<TextLine> {
  const decoder = new StringDecoder("utf8");
  let waiting: string[] = [];
  let waitingCharacters = 0;
  let line = 0;
  const finish = (tail: string): TextLine => {
    line += 1;
    const text = waiting.length === 0 ? tail : waiting.join("") + tail;
    waiting = [];
    waitingCharacters = 0;
    return { line, text: (line === 1 ? text.replace(/^\uFEFF/, "") : text).replace(/\r$/, "") };
  };
  for await (const chunk of chunks) {
    const pieces = decoder.write(chunk as Buffer).split("\n");
    for (const piece of pieces.slice(0, -1)) yield finish(piece);
    const tail = pieces.at(-1) ?? "";
    waiting.push(tail);
    waitingCharacters += tail.length;
    if (waitingCharacters > maxLineCharacters)
      throw new TooLargeError(
        "line_too_long",
        `${name}, line ${line + 1} is longer than ${maxLineCharacters / 2 ** 20} Mi characters: put one row on a line, and large pictures into files`,
      );
  }
  const last = finish(decoder.end());
  if (last.text !== "") yield last;
}
