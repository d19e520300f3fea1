import { createInterface } from "node:readline";
import type { ObjectStorage } from "@drydock/kit";
import { SampleResult } from "@drydock/spec";

export interface SamplesPage {
  readonly items: SampleResult[];
  readonly total: number;
}

/** Rows `[offset, offset + limit)` of a JSONL of sample results, streamed; only those shown are parsed. */
export async function readSamplesPage(
  storage: ObjectStorage,
  key: string,
  offset: number,
  limit: number,
): Promise<SamplesPage> {
  const items: SampleResult[] = [];
  let total = 0;
  for await (const line of createInterface({ input: await storage.read(key), crlfDelay: Infinity })) {
    if (line === "") continue;
    if (total >= offset && items.length < limit) items.push(SampleResult.parse(JSON.parse(line)));
    total++;
  }
  return { items, total };
}
