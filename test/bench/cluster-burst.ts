/** One run of the burst. */
export interface Work {
  readonly name: string;
  readonly ranks: number;
  readonly gpus: number;
}

/** Single-GPU runs with gangs spread evenly among them. */
export function burst(runs: number, gangs: number, ranks: number, gpus: number): Work[] {
  const total = runs + gangs;
  let made = 0;
  return Array.from({ length: total }, (_, index) => {
    const isGang = Math.floor(((index + 1) * gangs) / total) > made;
    if (isGang) made += 1;
    const name = `run-${String(index).padStart(6, "0")}`;
    return isGang ? { name, ranks, gpus } : { name, ranks: 1, gpus: 1 };
  });
}

/** Does something with each item, so many at a time, in order. */
export async function inLanes<Item>(
  items: readonly Item[],
  lanes: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!);
  };
  await Promise.all(Array.from({ length: Math.min(lanes, items.length) }, lane));
}
