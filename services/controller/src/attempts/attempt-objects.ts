import { createHmac } from "node:crypto";
import { NotFoundError, type ObjectStorage } from "@drydock/kit";
import { StoredAttempt, type AttemptStore } from "./attempt-files.ts";

/**
 * The newest attempt of each run and evaluation in object storage: for a controller whose own disk does not outlive it. The
 * token is not stored, since workers read the same storage: it is made again from the controller's key.
 */
export class AttemptObjects implements AttemptStore {
  readonly #storage: ObjectStorage;
  readonly #key: string;

  constructor(storage: ObjectStorage, key: string) {
    this.#storage = storage;
    this.#key = key;
  }

  newToken(id: string, epoch: number): string {
    return createHmac("sha256", this.#key).update(`attempt ${id} ${epoch}`).digest("base64url");
  }

  async read(id: string): Promise<StoredAttempt | null> {
    try {
      const { token: _none, ...stored } = StoredAttempt.parse(
        JSON.parse(Buffer.from(await this.#storage.get(keyOf(id))).toString()),
      );
      return { ...stored, token: this.newToken(id, stored.epoch) };
    } catch (error) {
      if (error instanceof NotFoundError) return null;
      throw error;
    }
  }

  async write(id: string, attempt: StoredAttempt): Promise<void> {
    const stored = { ...attempt, token: "not stored" };
    await this.#storage.put(keyOf(id), Buffer.from(JSON.stringify(stored)));
  }
}

function keyOf(id: string): string {
  return `controller/attempts/${id}.json`;
}
