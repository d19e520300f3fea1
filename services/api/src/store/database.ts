import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { retryUnavailable, type Logger } from "@drydock/kit";
import { sql } from "drizzle-orm";
import { drizzle as drizzlePostgres } from "drizzle-orm/node-postgres";
import { migrate as migratePostgres } from "drizzle-orm/node-postgres/migrator";
import type { PgDatabase, PgQueryResultHKT } from "drizzle-orm/pg-core";
import { drizzle as drizzlePglite } from "drizzle-orm/pglite";
import { migrate as migratePglite } from "drizzle-orm/pglite/migrator";
import pg from "pg";
import { asUnavailable } from "./database-errors.ts";

/** Either database, or a transaction on it: the stores cannot tell. */
export type Database = PgDatabase<PgQueryResultHKT>;

type Transaction = Parameters<Parameters<Database["transaction"]>[0]>[0];

export interface OpenDatabase {
  readonly database: Database;
  /** Answers when the database does. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

export type DatabaseLocation =
  | { readonly kind: "postgres"; readonly url: string }
  /** `directory: null` keeps everything in memory, for tests. */
  | { readonly kind: "pglite"; readonly directory: string | null };

const migrationsFolder = join(import.meta.dirname, "..", "..", "migrations");

/** Opens the database and brings its tables up to date. Waits up to a minute for a PostgreSQL that is still starting. */
export async function openDatabase(location: DatabaseLocation, logger: Logger): Promise<OpenDatabase> {
  return location.kind === "postgres" ? await openPostgres(location.url, logger) : await openPglite(location.directory);
}

async function openPglite(directory: string | null): Promise<OpenDatabase> {
  if (directory !== null) await mkdir(directory, { recursive: true });
  const client = await PGlite.create(directory ?? "memory://");
  const database = drizzlePglite(client);
  await migratePglite(database, { migrationsFolder });
  return {
    database,
    ping: async () => void (await client.query("select 1")),
    close: async () => await client.close(),
  };
}

async function openPostgres(url: string, logger: Logger): Promise<OpenDatabase> {
  const pool = new pg.Pool({
    connectionString: url,
    max: 16,
    // A request waits no longer than this for a connection, and no query runs longer: a lost database answers 503 soon.
    connectionTimeoutMillis: 5_000,
    query_timeout: 15_000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  });
  // A connection that breaks while no query is under way on it, idle or between two of a transaction, says so by an event
  // that would end the process if nobody listened. The pool replaces it; the transaction fails at its next query.
  pool.on("error", (error) => logger.warn({ err: error }, "idle database connection lost"));
  pool.on("connect", (client) =>
    client.on("error", (error) => logger.debug({ err: error }, "database connection lost")),
  );
  await retryUnavailable("open database", { budgetMs: 60_000 }, async () => await migrateUnderLock(pool));
  const database: Database = drizzlePostgres(pool);
  database.transaction = async (work) => await inTransaction(pool, work);
  return {
    database,
    ping: async () => void (await database.execute(sql`select 1`)),
    close: async () => await pool.end(),
  };
}

/**
 * As Drizzle's own transaction on a pool, which never gives back a connection whose `begin` fails: after as many
 * failures as the pool has connections, nobody would get one again. One that broke is closed, not given back.
 */
async function inTransaction<Result>(
  pool: pg.Pool,
  work: (transaction: Transaction) => Promise<Result>,
): Promise<Result> {
  const client = await pool.connect();
  let isBroken = false;
  try {
    return await drizzlePostgres(client).transaction(work);
  } catch (error) {
    isBroken = asUnavailable(error) !== null;
    throw error;
  } finally {
    client.release(isBroken);
  }
}

/** Two servers that start at once must not both migrate: the second waits for the first one's lock. */
async function migrateUnderLock(pool: pg.Pool): Promise<void> {
  let client: pg.PoolClient | undefined;
  try {
    client = await pool.connect();
    await client.query("select pg_advisory_lock(72146203)");
    await migratePostgres(drizzlePostgres(client), { migrationsFolder });
    await client.query("select pg_advisory_unlock(72146203)");
    client.release();
  } catch (error) {
    client?.release(true);
    throw asUnavailable(error) ?? error;
  }
}
