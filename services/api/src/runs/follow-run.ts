import { lookAgainMs, type StreamedEvent } from "../server-sent-events.ts";
import type { Services } from "../services.ts";

const batch = 500;

/** Rows of a run, or of a pipeline's run, in order of their sequence numbers, new ones as they come, until it is over and all have been seen. */
export async function* followSequence<Row extends { readonly sequence: number }>(
  { feed, closing }: Pick<Services, "feed" | "closing">,
  source: {
    readonly runId: string;
    readonly isOver: () => Promise<boolean>;
    readonly after: number;
    readonly read: (sequence: number, limit: number) => Promise<readonly Row[]>;
    readonly nameOf: (row: Row) => string;
  },
): AsyncGenerator<StreamedEvent | null> {
  const { runId, isOver, read, nameOf } = source;
  let sequence = source.after;
  while (!closing.aborted) {
    // Asked for before the rows, so that nothing written in between is missed.
    const news = feed.next(runId, lookAgainMs, closing);
    const wasOver = await isOver();
    const rows = await read(sequence, batch);
    for (const row of rows) {
      sequence = row.sequence;
      yield { id: sequence, event: nameOf(row), data: row };
    }
    if (rows.length === batch) continue;
    if (wasOver) return;
    yield null;
    await news;
  }
}
