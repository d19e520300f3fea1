/**
 * Applies `action` to the items of a source with at most `concurrency` at work, and yields the results in the source's
 * order. At most `concurrency` items are held. When the consumer stops or an action fails, those under way are awaited.
 */
export async function* mapInOrder<In, Out>(
  source: AsyncIterable<In>,
  concurrency: number,
  action: (item: In) => Promise<Out>,
): AsyncGenerator<Out> {
  const underWay: Promise<Out>[] = [];
  try {
    for await (const item of source) {
      const started = action(item);
      // Its failure is seen when its turn comes; until then it must not count as unhandled.
      started.catch(() => undefined);
      underWay.push(started);
      const first = underWay.length >= concurrency ? underWay.shift() : undefined;
      if (first) yield await first;
    }
    for (let first = underWay.shift(); first; first = underWay.shift()) yield await first;
  } finally {
    await Promise.allSettled(underWay);
  }
}
