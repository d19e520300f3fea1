import { readRecords as readVersion } from "@drydock/data";
import { InvalidError, NotFoundError, type ObjectStorage } from "@drydock/kit";
import type { DataRecord } from "@drydock/spec";
import { BadDataError } from "../failure.ts";

/**
 * All records of a data-set version, in file order.
 *
 * @param key  of `records.jsonl`, one `DataRecord` per line
 * @throws BadDataError naming the line that is not a record
 */
export async function readRecords(storage: ObjectStorage, key: string): Promise<DataRecord[]> {
  try {
    return await Array.fromAsync(readVersion(storage, key));
  } catch (error) {
    if (error instanceof NotFoundError) {
      throw new BadDataError(`the data set's records ${key} are not in storage: import the data set again`, {
        cause: error,
      });
    }
    throw error instanceof InvalidError ? new BadDataError(error.message, { cause: error }) : error;
  }
}
