/** Closes everything, in order, whatever fails on the way; then throws the first fault. */
export async function closeAll(closes: Iterable<(() => Promise<unknown>) | null | undefined>): Promise<void> {
  const faults: unknown[] = [];
  for (const close of closes) {
    try {
      await close?.();
    } catch (error) {
      faults.push(error);
    }
  }
  if (faults.length > 0) throw faults[0];
}
