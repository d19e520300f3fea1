import { InvalidError } from "@drydock/kit";

/** One page of a list, as the contract's `pageOf`. */
export interface Page<Item> {
  readonly items: Item[];
  readonly nextCursor: string | null;
}

/** The opaque cursor of a page that goes on after `position` (an id or a number, as text). */
export function encodeCursor(position: string | number): string {
  return Buffer.from(JSON.stringify([String(position)])).toString("base64url");
}

/** @throws InvalidError `invalid_cursor` for anything that {@link encodeCursor} did not make */
export function decodeCursor(cursor: string | undefined): string | null {
  if (cursor === undefined) return null;
  const message = `cursor "${cursor.slice(0, 40)}" is not one that this server gave: use the nextCursor of the page before, unchanged, or none`;
  const refused = new InvalidError("invalid_cursor", message, {
    details: [{ path: "cursor", code: "invalid_cursor", message }],
  });
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
    if (Array.isArray(parsed) && parsed.length === 1 && typeof parsed[0] === "string") return parsed[0];
  } catch {
    throw refused;
  }
  throw refused;
}

/** As {@link decodeCursor}, for lists whose position is a number; 0 when there is no cursor. */
export function decodeNumberCursor(cursor: string | undefined): number {
  const position = decodeCursor(cursor);
  const value = Number(position ?? 0);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidError("invalid_cursor", "the cursor belongs to another list: use the nextCursor of this list");
  return value;
}

/** Cuts rows that were read with `limit + 1` into a page. */
export function pageFrom<Row, Item>(
  rows: readonly Row[],
  limit: number,
  toItem: (row: Row) => Item,
  positionOf: (row: Row) => string | number,
): Page<Item> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  return {
    items: shown.map(toItem),
    nextCursor: rows.length > limit && last !== undefined ? encodeCursor(positionOf(last)) : null,
  };
}
