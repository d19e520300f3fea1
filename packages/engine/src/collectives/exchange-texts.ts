import type { Collective } from "./collective.ts";

/** Each rank gives a text; every rank gets all of them, in the order of the ranks. */
export async function exchangeTexts(collective: Collective, text: string): Promise<string[]> {
  const { rank, worldSize } = collective;
  const bytes = Buffer.from(text);
  const lengths = new Float64Array(worldSize);
  lengths[rank] = bytes.length;
  await collective.allReduceSum([lengths]);
  const share = Math.ceil(Math.max(...lengths) / Float64Array.BYTES_PER_ELEMENT);
  const all = new Float64Array(share * worldSize);
  const memory = Buffer.from(all.buffer);
  const startOf = (of: number): number => of * share * Float64Array.BYTES_PER_ELEMENT;
  bytes.copy(memory, startOf(rank));
  await collective.allGather([all]);
  return Array.from(lengths, (length, of) => memory.toString("utf8", startOf(of), startOf(of) + length));
}
