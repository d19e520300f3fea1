import { randomBytes } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

export const StoredAttempt = z.object({
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
  /** Nodes on which an attempt of this run hung or saw a hardware fault. */
  avoidNodes: z.array(z.string()).default([]),
});

/** What an attempt must remember beyond a restart of the controller. Holds the token: readable by the owner only. */
export type StoredAttempt = z.infer<typeof StoredAttempt>;

/** The newest attempt of each run and evaluation. */
export interface AttemptStore {
  /** A token for a new attempt. */
  newToken(id: string, epoch: number): string;
  /** Null when there is none. */
  read(id: string): Promise<StoredAttempt | null>;
  write(id: string, attempt: StoredAttempt): Promise<void>;
}

/** One small file each, beside the controller: for one computer. */
export class AttemptFiles implements AttemptStore {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  newToken(): string {
    return randomBytes(24).toString("base64url");
  }

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
