import { randomBytes } from "node:crypto";
import { newId, sha256 } from "@drydock/kit";
import { and, asc, eq, isNull } from "drizzle-orm";
import type { Database } from "./database.ts";
import { apiKeys, type Scope } from "./schema.ts";

export interface KeyOwner {
  readonly id: string;
  readonly scopes: readonly Scope[];
}

export interface ApiKey extends KeyOwner {
  readonly name: string;
  readonly createdAt: string;
}

/** All scopes, each including the ones before it: a key for `admin` may do everything. */
export const allScopes: readonly Scope[] = ["read", "submit", "admin"];

/** A key as given to its owner, once: 160 random bits. */
export function newSecret(): string {
  return `dk_${randomBytes(20).toString("hex")}`;
}

/** API keys. Only their hashes are kept. */
export class KeyStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The owner of a secret, or null when it is unknown or revoked. */
  async find(secret: string): Promise<KeyOwner | null> {
    const [row] = await this.#database
      .select({ id: apiKeys.id, scopes: apiKeys.scopes })
      .from(apiKeys)
      .where(and(eq(apiKeys.hash, sha256(secret)), isNull(apiKeys.revokedAt)));
    return row ?? null;
  }

  async list(): Promise<ApiKey[]> {
    const rows = await this.#database.select().from(apiKeys).where(isNull(apiKeys.revokedAt)).orderBy(asc(apiKeys.id));
    return rows.map(({ id, name, scopes, createdAt }) => ({ id, name, scopes, createdAt: createdAt.toISOString() }));
  }

  /** Stores a key; one with the same secret is left as it is. */
  async insert(name: string, secret: string, scopes: readonly Scope[]): Promise<ApiKey> {
    const values = { id: newId("key"), name, hash: sha256(secret), scopes: [...scopes] };
    const [row] = await this.#database
      .insert(apiKeys)
      .values(values)
      .onConflictDoUpdate({ target: apiKeys.hash, set: { name, scopes: [...scopes], revokedAt: null } })
      .returning();
    return { id: row!.id, name: row!.name, scopes: row!.scopes, createdAt: row!.createdAt.toISOString() };
  }

  /** True when there was such a key. */
  async revoke(id: string): Promise<boolean> {
    const rows = await this.#database
      .update(apiKeys)
      .set({ revokedAt: new Date() })
      .where(and(eq(apiKeys.id, id), isNull(apiKeys.revokedAt)))
      .returning({ id: apiKeys.id });
    return rows.length > 0;
  }
}
