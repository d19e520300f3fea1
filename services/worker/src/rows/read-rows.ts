import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { importVersion, readRecords } from "@drydock/data";
import { FolderStorage, InvalidError, NotFoundError } from "@drydock/kit";
import { ImportOptions, type DataRecord, type RecordImage, type Task } from "@drydock/spec";
import { BadDataError } from "../failure.ts";
import { localPathOf, readMessagesFile } from "./read-messages.ts";

/** Rows on this machine, and where their pictures are. */
export interface LocalRows {
  readonly records: readonly DataRecord[];
  readonly pathOf: (image: RecordImage) => Promise<string>;
}

/**
 * Rows of OpenAI messages, or of a folder or an archive in any format that can be imported.
 *
 * @param path     a `.jsonl` file, a folder or an archive
 * @param scratch  folder for what is imported
 * @throws BadDataError naming what cannot be read
 */
export async function readRows(path: string, scratch: string, task?: Task): Promise<LocalRows> {
  if (path.endsWith(".jsonl") && (await isFile(path))) {
    const records = await readMessagesFile(path, {
      scratchDirectory: join(scratch, "pictures"),
      ...(task === undefined ? {} : { task }),
    });
    return { records, pathOf: localPathOf };
  }
  const storage = new FolderStorage(scratch);
  await mkdir(scratch, { recursive: true });
  try {
    const { recordsKey } = await importVersion({
      path,
      storage,
      options: ImportOptions.parse({ task }),
      datasetId: "local",
      version: 1,
      workDirectory: scratch,
    });
    const records: DataRecord[] = [];
    for await (const record of readRecords(storage, recordsKey)) records.push(record);
    return { records, pathOf: ({ key }) => Promise.resolve(join(scratch, key)) };
  } catch (error) {
    if (error instanceof InvalidError || error instanceof NotFoundError)
      throw new BadDataError(error.message, { cause: error });
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (status) => status.isFile(),
    () => false,
  );
}
