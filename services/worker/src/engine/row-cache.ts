import type { EncodedRow } from "@drydock/engine";

/** Encoded rows by id, the least recently used dropped when their pictures take more than so many bytes. */
export class RowCache {
  readonly #limitBytes: number;
  readonly #rows = new Map<string, EncodedRow>();
  #sizeBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  async get(rowId: string, encode: () => Promise<EncodedRow>): Promise<EncodedRow> {
    const known = this.#rows.get(rowId);
    if (known) {
      this.#rows.delete(rowId);
      this.#rows.set(rowId, known);
      return known;
    }
    const row = await encode();
    if (!this.#rows.has(rowId)) {
      this.#rows.set(rowId, row);
      this.#sizeBytes += sizeOf(row);
      this.#shrink();
    }
    return row;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  #shrink(): void {
    for (const [rowId, row] of this.#rows) {
      if (this.#sizeBytes <= this.#limitBytes) return;
      this.#rows.delete(rowId);
      this.#sizeBytes -= sizeOf(row);
    }
  }
}

function sizeOf({ images, inputIds }: EncodedRow): number {
  return images.reduce((sum, { patches }) => sum + patches.byteLength, 0) + 16 * inputIds.length;
}
