import { createInterface } from "node:readline";
import type { ObjectStorage } from "@drydock/kit";
import { DataRecord } from "@drydock/spec";

export interface RecordsPage {
  readonly rows: DataRecord[];
  /** Rows of the whole file, or of the split asked for. */
  readonly total: number;
}

/** Rows `[offset, offset + limit)` of a `records.jsonl`, streamed; only the rows shown are parsed whole. */
export async function readRecordsPage(
  storage: ObjectStorage,
  key: string,
  page: { readonly offset: number; readonly limit: number; readonly split?: DataRecord["split"] | undefined },
): Promise<RecordsPage> {
  const rows: DataRecord[] = [];
  let total = 0;
  for await (const line of createInterface({ input: await storage.read(key), crlfDelay: Infinity })) {
    if (line === "") continue;
    if (page.split !== undefined && (JSON.parse(line) as { split: string }).split !== page.split) continue;
    if (total >= page.offset && rows.length < page.limit) rows.push(DataRecord.parse(JSON.parse(line)));
    total++;
  }
  return { rows, total };
}
