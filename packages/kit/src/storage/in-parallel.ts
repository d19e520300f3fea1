/**
 * Runs `action` for 0 … count-1, at most `limit` at once, and answers the results in order. The first failure aborts the
 * signal that the others got, waits for them to end, and is thrown.
 */
export async function inParallel<T>(
  count: number,
  limit: number,
  action: (index: number, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  const abort = new AbortController();
  const results: T[] = [];
  let next = 0;
  let failure: { readonly error: unknown } | null = null;
  async function work(): Promise<void> {
    while (next < count && failure === null) {
      const index = next++;
      try {
        results[index] = await action(index, abort.signal);
      } catch (error) {
        failure ??= { error };
        abort.abort();
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, count) }, work));
  const failed = failure as { readonly error: unknown } | null; // assigned in a closure, which the compiler does not follow
  if (failed !== null) throw failed.error;
  return results;
}
