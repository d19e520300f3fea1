import { NotFoundError, PreconditionFailedError, newId } from "@drydock/kit";
import type { Webhook, WebhookChange, WebhookCreation, WebhookDelivery } from "@drydock/spec";
import { and, asc, desc, eq, lt, ne, sql } from "drizzle-orm";
import { decodeCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "./database.ts";
import type { ListPage } from "./dataset-store.ts";
import { webhookDeliveries, webhooks } from "./schema.ts";

export type WebhookRow = typeof webhooks.$inferSelect;
export type DeliveryRow = typeof webhookDeliveries.$inferSelect;

/** How long a secret that was replaced still signs. */
export const overlapMs = 24 * 3_600_000;

const isDue = and(
  eq(webhookDeliveries.state, "pending"),
  eq(webhooks.state, "enabled"),
  sql`${webhookDeliveries.dueAt} <= now()`,
);

/** Webhooks and what is on its way to them. Give it a transaction and everything it does is part of that. */
export class WebhookStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async insert(creation: WebhookCreation, sealedSecret: string): Promise<WebhookRow> {
    const [row] = await this.#database
      .insert(webhooks)
      .values({ ...creation, id: newId("webhook"), state: "enabled", secret: sealedSecret })
      .returning();
    return row!;
  }

  async all(): Promise<WebhookRow[]> {
    return await this.#database.select().from(webhooks).orderBy(asc(webhooks.id));
  }

  /** @throws NotFoundError `webhook_not_found` */
  async get(id: string): Promise<WebhookRow> {
    const [row] = await this.#database.select().from(webhooks).where(eq(webhooks.id, id));
    if (row === undefined) throw notFound(id);
    return row;
  }

  /** Locked until the transaction ends. @throws NotFoundError `webhook_not_found` @throws PreconditionFailedError `webhook_changed` */
  async lock(id: string, ifMatch?: string): Promise<WebhookRow> {
    const [row] = await this.#database.select().from(webhooks).where(eq(webhooks.id, id)).for("update");
    if (row === undefined) throw notFound(id);
    if (ifMatch === undefined || ifMatch.trim() === "*" || ifMatch.trim() === `"${row.revision}"`) return row;
    throw new PreconditionFailedError("webhook_changed", `webhook ${id} has changed since you read it: read it again`);
  }

  /** A webhook that is enabled again begins with a clean slate; what waits for it is sent. */
  async change(row: WebhookRow, change: WebhookChange): Promise<WebhookRow> {
    const state =
      change.state === undefined
        ? {}
        : { state: change.state, reason: change.state === "disabled" ? "disabled by hand" : null, failuresInRow: 0 };
    return await this.#set(row, { ...change, ...state });
  }

  async replaceSecret(row: WebhookRow, sealedSecret: string, now: Date): Promise<WebhookRow> {
    const previousUntil = new Date(now.getTime() + overlapMs);
    return await this.#set(row, { secret: sealedSecret, previousSecret: row.secret, previousUntil });
  }

  async disable(row: WebhookRow, reason: string): Promise<void> {
    await this.#set(row, { state: "disabled", reason });
  }

  async countFailures(row: WebhookRow, failuresInRow: number): Promise<void> {
    if (row.failuresInRow === failuresInRow) return;
    await this.#database.update(webhooks).set({ failuresInRow }).where(eq(webhooks.id, row.id));
  }

  async remove({ id }: WebhookRow): Promise<void> {
    await this.#database.delete(webhooks).where(eq(webhooks.id, id));
  }

  async insertDelivery(webhookId: string, payload: DeliveryRow["payload"]): Promise<DeliveryRow> {
    const [row] = await this.#database
      .insert(webhookDeliveries)
      .values({ id: newId("delivery"), webhookId, state: "pending", payload })
      .returning();
    return row!;
  }

  /** Newest first. */
  async deliveries(webhookId: string, page: ListPage): Promise<Page<WebhookDelivery>> {
    const before = decodeCursor(page.cursor);
    const rows = await this.#database
      .select()
      .from(webhookDeliveries)
      .where(
        and(eq(webhookDeliveries.webhookId, webhookId), before === null ? undefined : lt(webhookDeliveries.id, before)),
      )
      .orderBy(desc(webhookDeliveries.id))
      .limit(page.limit + 1);
    return pageFrom(rows, page.limit, toDelivery, (row) => row.id);
  }

  /** To be sent again, as if for the first time. @throws NotFoundError `delivery_not_found` */
  async sendAgain(webhookId: string, deliveryId: string): Promise<DeliveryRow> {
    const [row] = await this.#database
      .update(webhookDeliveries)
      .set({ state: "pending", tries: 0, dueAt: sql`now()`, updatedAt: new Date() })
      .where(and(eq(webhookDeliveries.id, deliveryId), eq(webhookDeliveries.webhookId, webhookId)))
      .returning();
    if (row !== undefined) return row;
    throw new NotFoundError(
      "delivery_not_found",
      `webhook ${webhookId} has no delivery "${deliveryId}": list them with GET /v1/webhooks/${webhookId}/deliveries`,
    );
  }

  /** Webhooks for which a delivery is due. */
  async withDue(): Promise<string[]> {
    const rows = await this.#database
      .selectDistinct({ id: webhooks.id })
      .from(webhookDeliveries)
      .innerJoin(webhooks, eq(webhooks.id, webhookDeliveries.webhookId))
      .where(isDue);
    return rows.map(({ id }) => id);
  }

  /** Deliveries to a webhook that are due, oldest first, held for `leaseMs`: nobody else sends them meanwhile. */
  async claimDue(webhookId: string, limit: number, leaseMs: number): Promise<DeliveryRow[]> {
    return await this.#database.transaction(async (tx) => {
      const due = await tx
        .select({ delivery: webhookDeliveries })
        .from(webhookDeliveries)
        .innerJoin(webhooks, eq(webhooks.id, webhookDeliveries.webhookId))
        .where(and(eq(webhookDeliveries.webhookId, webhookId), isDue))
        .orderBy(asc(webhookDeliveries.dueAt))
        .limit(limit)
        .for("update", { of: webhookDeliveries, skipLocked: true });
      const rows = due.map(({ delivery }) => delivery);
      if (rows.length > 0)
        await tx
          .update(webhookDeliveries)
          .set({ dueAt: sql`now() + make_interval(secs => ${leaseMs / 1000})` })
          .where(sql`${webhookDeliveries.id} in ${rows.map((row) => row.id)}`);
      return rows;
    });
  }

  /** Notes what a try came to; false, and nothing is noted, when the delivery was asked for again while it went on. */
  async noteTry(
    { id, tries }: DeliveryRow,
    noted: Pick<DeliveryRow, "status" | "error"> & Partial<Pick<DeliveryRow, "state" | "dueAt">>,
  ): Promise<boolean> {
    const changed = await this.#database
      .update(webhookDeliveries)
      .set({ ...noted, tries: tries + 1, updatedAt: new Date() })
      .where(
        and(
          eq(webhookDeliveries.id, id),
          eq(webhookDeliveries.state, "pending"),
          // Counted from nothing again when it is sent again.
          eq(webhookDeliveries.tries, tries),
        ),
      )
      .returning({ id: webhookDeliveries.id });
    return changed.length > 0;
  }

  /** Removes deliveries that are over and older. */
  async forgetOver(before: Date): Promise<void> {
    await this.#database
      .delete(webhookDeliveries)
      .where(and(ne(webhookDeliveries.state, "pending"), lt(webhookDeliveries.updatedAt, before)));
  }

  async #set(
    row: WebhookRow,
    change: { [Field in keyof WebhookRow]?: WebhookRow[Field] | undefined },
  ): Promise<WebhookRow> {
    const [changed] = await this.#database
      .update(webhooks)
      .set({ ...change, revision: row.revision + 1, updatedAt: new Date() })
      .where(eq(webhooks.id, row.id))
      .returning();
    return changed!;
  }
}

export function toWebhook(row: WebhookRow): Webhook {
  const { id, url, events, description, state, reason, revision, createdAt, updatedAt } = row;
  return {
    id,
    url,
    events,
    description,
    state,
    reason,
    etag: `"${revision}"`,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

export function toDelivery(row: DeliveryRow): WebhookDelivery {
  const { webhookId: _webhookId, dueAt, createdAt, updatedAt, ...rest } = row;
  return {
    ...rest,
    dueAt: row.state === "pending" ? dueAt.toISOString() : null,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

function notFound(id: string): NotFoundError {
  return new NotFoundError("webhook_not_found", `there is no webhook "${id}": list them with GET /v1/webhooks`);
}
