import { createInterface } from "node:readline";
import { NotFoundError, messageOf, type ObjectStorage } from "@drydock/kit";
import { DataRecord } from "@drydock/spec";
import { BadDataError } from "../failure.ts";

/**
 * The records of a data-set version, in file order.
 *
 * @param key  of `records.jsonl`, one `DataRecord` per line
 * @throws BadDataError naming the line that is not a record
 */
export async function readRecords(storage: ObjectStorage, key: string): Promise<DataRecord[]> {
  const records: DataRecord[] = [];
  let line = 0;
  for await (const text of createInterface({ input: await open(storage, key), crlfDelay: Number.POSITIVE_INFINITY })) {
    line += 1;
    if (text.trim() !== "") records.push(parseRecord(key, line, text));
  }
  return records;
}

async function open(storage: ObjectStorage, key: string): ReturnType<ObjectStorage["read"]> {
  try {
    return await storage.read(key);
  } catch (error) {
    if (error instanceof NotFoundError)
      throw new BadDataError(`the data set's records ${key} are not in storage: import the data set again`, {
        cause: error,
      });
    throw error;
  }
}

function parseRecord(key: string, line: number, text: string): DataRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new BadDataError(`${key}, line ${line}: broken JSON (${messageOf(error)})`, { cause: error });
  }
  const parsed = DataRecord.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new BadDataError(`${key}, line ${line}: ${issue?.path.join(".")}: ${issue?.message}`);
}
