import { lookAgainMs, type StreamedEvent } from "../server-sent-events.ts";
import type { Services } from "../services.ts";
import { isTerminal } from "./run-state-machine.ts";

const batch = 500;

/** Rows of a run in order of their sequence numbers, new ones as they come, until the run is over and all have been seen. */
export async function* followSequence<Row extends { readonly sequence: number }>(
  { runs, feed, closing }: Pick<Services, "runs" | "feed" | "closing">,
  source: {
    readonly runId: string;
    readonly after: number;
    readonly read: (sequence: number, limit: number) => Promise<readonly Row[]>;
    readonly nameOf: (row: Row) => string;
  },
): AsyncGenerator<StreamedEvent | null> {
  const { runId, read, nameOf } = source;
  let sequence = source.after;
  while (!closing.aborted) {
    // Asked for before the rows, so that nothing written in between is missed.
    const news = feed.next(runId, lookAgainMs, closing);
    const isOver = isTerminal(await runs.stateOf(runId));
    const rows = await read(sequence, batch);
    for (const row of rows) {
      sequence = row.sequence;
      yield { id: sequence, event: nameOf(row), data: row };
    }
    if (rows.length === batch) continue;
    if (isOver) return;
    yield null;
    await news;
  }
}
