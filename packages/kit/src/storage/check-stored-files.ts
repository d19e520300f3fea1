import { createHash } from "node:crypto";
import { NotFoundError } from "../errors.ts";
import type { ObjectStorage } from "./object-storage.ts";

export interface ExpectedFile {
  /** Below the prefix. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface StoredFileProblem {
  readonly file: string;
  readonly code: "missing" | "size" | "digest" | "unexpected";
  /** A sentence that names the file. */
  readonly message: string;
}

/**
 * Compares what lies below a prefix with what should: each file is there, has its size and its digest, and nothing lies beside them,
 * since a reader of the folder would take that too. Files are streamed, one after another: memory stays small whatever their size.
 *
 * @param prefix      ends with `/`
 * @param owner       whose files they are, for sentences: `weld@3`
 * @param onProgress  called while reading, with the bytes read so far of all files
 * @throws UnavailableError when storage does not answer
 */
export async function checkStoredFiles(
  storage: ObjectStorage,
  prefix: string,
  files: readonly ExpectedFile[],
  owner: string,
  onProgress: (bytesRead: number) => void = () => undefined,
): Promise<StoredFileProblem[]> {
  const found = new Map<string, number>();
  for await (const { key, sizeBytes } of storage.list(prefix)) found.set(key.slice(prefix.length), sizeBytes);
  const problems: StoredFileProblem[] = [];
  let bytesRead = 0;
  for (const file of files) {
    const sizeBytes = found.get(file.name);
    const problem =
      sizeBytes === undefined || sizeBytes !== file.sizeBytes
        ? missingOrCut(file, sizeBytes ?? null, owner)
        : await checkDigest(storage, `${prefix}${file.name}`, file, owner, (bytes) => {
            bytesRead += bytes;
            onProgress(bytesRead);
          });
    if (problem !== null) problems.push(problem);
  }
  const expected = new Set(files.map(({ name }) => name));
  for (const file of found.keys())
    if (!expected.has(file))
      problems.push({
        file,
        code: "unexpected",
        message: `${file} lies beside the files of ${owner}, but is none of them`,
      });
  return problems;
}

function missingOrCut({ name: file, sizeBytes }: ExpectedFile, found: number | null, owner: string): StoredFileProblem {
  return found === null
    ? { file, code: "missing", message: `${file} of ${owner} is missing from storage` }
    : {
        file,
        code: "size",
        message: `${file} of ${owner} is damaged: it has ${found} bytes, and should have ${sizeBytes}`,
      };
}

async function checkDigest(
  storage: ObjectStorage,
  key: string,
  file: ExpectedFile,
  owner: string,
  onBytes: (bytes: number) => void,
): Promise<StoredFileProblem | null> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of await storage.read(key)) {
      hash.update(chunk as Buffer);
      onBytes((chunk as Buffer).length);
    }
  } catch (error) {
    if (error instanceof NotFoundError) return missingOrCut(file, null, owner);
    throw error;
  }
  const sha256 = hash.digest("hex");
  if (sha256 === file.sha256) return null;
  const message = `${file.name} of ${owner} is damaged: its SHA-256 is ${sha256.slice(0, 16)}…, and should be ${file.sha256.slice(0, 16)}…`;
  return { file: file.name, code: "digest", message };
}
