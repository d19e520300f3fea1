import {
  webhookEventTypes,
  type ModelEvent,
  type ModelEventType,
  type ProductionEvent,
  type WebhookEventType,
} from "@drydock/spec";
import { and, asc, desc, eq, inArray, lt } from "drizzle-orm";
import { decodeNumberCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "../store/database.ts";
import { modelEvents } from "../store/schema.ts";
import { emitEvent } from "../store/emit-event.ts";

export interface NewModelEvent {
  readonly name: string;
  readonly version: number;
  /** One event per model and key. */
  readonly key: string;
  readonly actor: string;
  readonly type: ModelEventType;
  readonly from: string | null;
  readonly to: string | null;
  readonly message: string;
}

/** Writes an event, in the caller's transaction; one whose key is there already changes nothing. */
export async function appendModelEvent(tx: Database, event: NewModelEvent): Promise<void> {
  const written = await tx
    .insert(modelEvents)
    .values({ ...event, key: keyOf(event.name, event.key) })
    .onConflictDoNothing({ target: modelEvents.key })
    .returning({ id: modelEvents.id });
  const { type, name, version, from, to, actor, message } = event;
  if (written.length > 0 && isTold(type))
    await emitEvent(tx, { type, data: { model: name, version, from, to, actor, message } });
}

function isTold(type: ModelEventType): type is ModelEventType & WebhookEventType {
  return (webhookEventTypes as readonly string[]).includes(type);
}

/** The event of a key; null when nothing was done with it yet. */
export async function findModelEvent(tx: Database, name: string, key: string): Promise<ModelEvent | null> {
  const [row] = await tx
    .select()
    .from(modelEvents)
    .where(eq(modelEvents.key, keyOf(name, key)));
  return row === undefined ? null : toEvent(row);
}

/** A model's history, newest first; of one version, when its number is given. */
export async function listModelEvents(
  database: Database,
  name: string,
  page: { readonly limit: number; readonly cursor?: string | undefined; readonly version?: number | undefined },
): Promise<Page<ModelEvent>> {
  const before = page.cursor === undefined ? null : decodeNumberCursor(page.cursor);
  const rows = await database
    .select()
    .from(modelEvents)
    .where(
      and(
        eq(modelEvents.name, name),
        page.version === undefined ? undefined : eq(modelEvents.version, page.version),
        before === null ? undefined : lt(modelEvents.id, before),
      ),
    )
    .orderBy(desc(modelEvents.id))
    .limit(page.limit + 1);
  return pageFrom(rows, page.limit, toEvent, ({ id }) => id);
}

const productionEventKinds = {
  "model.promoted": "promoted",
  "model.rolled-back": "rolled-back",
  "model.retired": "retired",
} as const;
type ProductionEventType = keyof typeof productionEventKinds;

/** Which version was in production when, oldest first. */
export async function productionEventsOf(tx: Database, name: string): Promise<ProductionEvent[]> {
  const rows = await tx
    .select({ type: modelEvents.type, from: modelEvents.from, to: modelEvents.to })
    .from(modelEvents)
    .where(
      and(
        eq(modelEvents.name, name),
        inArray(modelEvents.type, Object.keys(productionEventKinds) as ProductionEventType[]),
      ),
    )
    .orderBy(asc(modelEvents.id));
  return rows.map(({ type, from, to }) => ({
    kind: productionEventKinds[type as ProductionEventType],
    from: from === null ? null : Number(from),
    to: to === null ? null : Number(to),
  }));
}

/** Two models may be given the same key by two callers. */
function keyOf(name: string, key: string): string {
  return `${name}/${key}`;
}

function toEvent({ key: _key, time, ...row }: typeof modelEvents.$inferSelect): ModelEvent {
  return { ...row, time: time.toISOString() };
}
