import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

const StoredAttempt = z.object({
  epoch: z.int().positive(),
  token: z.string().min(1),
  configJson: z.string(),
  /**
   * What the last report of each rank said, null for one that has not ended; kept so that an end that was told to a
   * controller that died is not forgotten.
   */
  outcomes: z
    .array(z.object({ exitCode: z.int(), reason: z.string(), message: z.string(), modelKey: z.string() }).nullable())
    .min(1),
});

/** What an attempt must remember beyond a restart of the controller. Holds the token: readable by the owner only. */
export type StoredAttempt = z.infer<typeof StoredAttempt>;

/** The newest attempt of each run and evaluation, one small file each. */
export class AttemptFiles {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Null when there is none. */
  async read(id: string): Promise<StoredAttempt | null> {
    try {
      return StoredAttempt.parse(JSON.parse(await readFile(this.#path(id), "utf8")));
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
      throw error;
    }
  }

  /** Whole or not at all, so that a kill while writing leaves the file before. */
  async write(id: string, attempt: StoredAttempt): Promise<void> {
    await mkdir(this.#directory, { recursive: true });
    const temporary = `${this.#path(id)}.${process.pid}.tmp`;
    await writeFile(temporary, JSON.stringify(attempt), { mode: 0o600 });
    await rename(temporary, this.#path(id));
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}
