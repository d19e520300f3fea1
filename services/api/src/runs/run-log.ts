import { NotFoundError, type ObjectStorage } from "@drydock/kit";
import { lookAgainMs, type StreamedEvent } from "../server-sent-events.ts";
import type { Services } from "../services.ts";
import { isTerminal } from "./run-state-machine.ts";

/** Key of what rank 0 of an attempt wrote. */
export function logKey(runId: string, attempt: number): string {
  return `runs/${runId}/attempts/${attempt}/rank-0.log`;
}

/** Bytes read back from the end to find the last lines: a line of a log is some hundred bytes. */
const tailBytes = 1 << 20;

export interface LogTail {
  readonly attempt: number;
  readonly lines: string[];
  readonly sizeBytes: number;
}

/** The last `tail` lines of a log. @throws NotFoundError `log_not_found` */
export async function readLog(
  storage: ObjectStorage,
  request: { readonly runId: string; readonly attempt: number; readonly tail: number },
): Promise<LogTail> {
  const key = logKey(request.runId, request.attempt);
  const info = await storage.head(key);
  if (info === null)
    throw new NotFoundError(
      "log_not_found",
      `attempt ${request.attempt} of run ${request.runId} has written no log yet`,
    );
  const start = Math.max(0, info.sizeBytes - tailBytes);
  const lines = (await readText(storage, key, start, info.sizeBytes)).split("\n");
  if (lines.at(-1) === "") lines.pop();
  if (start > 0) lines.shift();
  return {
    attempt: request.attempt,
    lines: request.tail === 0 ? [] : lines.slice(-request.tail),
    sizeBytes: info.sizeBytes,
  };
}

/**
 * Lines of a log as events named `log`, whose id is the place (in bytes) after the line. Begins after the place `after`,
 * or with the last `tail` lines, and goes on until the run is over when it is to follow.
 */
export async function* followLog(
  { storage, runs, feed, closing }: Pick<Services, "storage" | "runs" | "feed" | "closing">,
  request: {
    readonly runId: string;
    readonly attempt: number;
    readonly tail: number;
    readonly after: number | null;
    readonly follow: boolean;
  },
): AsyncGenerator<StreamedEvent | null> {
  const { runId, attempt, follow } = request;
  const key = logKey(runId, attempt);
  let position = request.after ?? (await positionOfTail(storage, key, request.tail));
  while (!closing.aborted) {
    const news = feed.next(runId, lookAgainMs, closing);
    const isOver = isTerminal(await runs.stateOf(runId));
    const sizeBytes = (await storage.head(key))?.sizeBytes ?? 0;
    if (sizeBytes > position) {
      for (const line of wholeLines(await readText(storage, key, position, sizeBytes), isOver || !follow)) {
        position += Buffer.byteLength(line.text) + line.endBytes;
        yield { id: position, event: "log", data: { attempt, line: line.text } };
      }
    }
    if (isOver || !follow) return;
    yield null;
    await news;
  }
}

/** Lines that have their end; the last one without it only when no more will come. */
function wholeLines(text: string, isLast: boolean): { text: string; endBytes: 0 | 1 }[] {
  const parts = text.split("\n");
  const rest = parts.pop() ?? "";
  const lines: { text: string; endBytes: 0 | 1 }[] = parts.map((part) => ({ text: part, endBytes: 1 }));
  if (isLast && rest !== "") lines.push({ text: rest, endBytes: 0 });
  return lines;
}

async function positionOfTail(storage: ObjectStorage, key: string, tail: number): Promise<number> {
  const sizeBytes = (await storage.head(key))?.sizeBytes ?? 0;
  if (sizeBytes === 0 || tail === 0) return sizeBytes;
  const start = Math.max(0, sizeBytes - tailBytes);
  const bytes = Buffer.from(await readBytes(storage, key, start, sizeBytes));
  let at = bytes.length;
  if (bytes[at - 1] === 10) at--;
  for (let found = 0; at > 0 && found < tail; found++) at = bytes.lastIndexOf(10, at - 1);
  return start + Math.max(0, at + 1);
}

async function readText(storage: ObjectStorage, key: string, start: number, endExclusive: number): Promise<string> {
  return new TextDecoder().decode(await readBytes(storage, key, start, endExclusive));
}

async function readBytes(
  storage: ObjectStorage,
  key: string,
  start: number,
  endExclusive: number,
): Promise<Uint8Array> {
  if (start >= endExclusive) return new Uint8Array();
  const chunks: Buffer[] = [];
  for await (const chunk of await storage.read(key, { start, endExclusive })) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
