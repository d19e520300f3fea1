import { InvalidError, messageOf, type ObjectStorage } from "@drydock/kit";
import { DataRecord } from "@drydock/spec";
import { firstProblem } from "../importers/read-json.ts";
import { splitLines } from "../text-lines.ts";

/**
 * The records of a version in file order, one in memory at a time.
 *
 * @param key  of `records.jsonl`
 * @throws NotFoundError `object_not_found`; InvalidError `bad_records` naming the line
 */
export async function* readRecords(storage: ObjectStorage, key: string): AsyncIterable<DataRecord> {
  for await (const { line, text } of splitLines(await storage.read(key), key)) {
    if (text.trim() !== "") yield parseRecord(text, `${key}, line ${line}`);
  }
}

/** One line of a records file. @throws InvalidError `bad_records` naming `place` */
export function parseRecord(text: string, place: string): DataRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InvalidError("bad_records", `${place}: broken JSON (${messageOf(error)}): import the data set again`, {
      cause: error,
    });
  }
  const parsed = DataRecord.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = firstProblem(parsed.error);
  throw new InvalidError("bad_records", `${place}: ${path}: ${message}: import the data set again`);
}
