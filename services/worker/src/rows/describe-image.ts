import { readFile } from "node:fs/promises";
import { inspectImage } from "@drydock/data";
import { messageOf } from "@drydock/kit";
import type { RecordImage } from "@drydock/spec";
import { BadDataError } from "../failure.ts";

/**
 * Size and digest of a picture on this machine; its key is its path.
 *
 * @param where  the row or option that names it, for messages
 * @throws BadDataError when it is missing or no picture
 */
export async function describeImage(path: string, fileName: string, where: string): Promise<RecordImage> {
  const inspected = await inspectImage(await readPicture(path, fileName, where));
  if (!inspected.isUsable) throw new BadDataError(`${where}: picture ${fileName} ${inspected.message}`);
  const { sha256, width, height, sizeBytes } = inspected;
  return { key: path, sha256, fileName, width, height, sizeBytes };
}

async function readPicture(path: string, fileName: string, where: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    throw new BadDataError(
      `${where}: picture ${fileName} ${isMissing ? `does not exist (${path})` : `cannot be read: ${messageOf(error)}`}`,
      { cause: error },
    );
  }
}
