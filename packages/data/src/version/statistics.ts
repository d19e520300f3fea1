import type { DataRecord, DatasetStatistics } from "@drydock/spec";
import { writeGroundings } from "../conventions/box-text.ts";

/** Most rows that `samples` describes. */
const maxSamples = 10_000;

type Sample = DatasetStatistics["samples"][number];

/**
 * Counts a version while its records are written.
 *
 * A pair is a question with its answer: one per assistant turn, or one per phrase of a grounding row (at least one).
 * Characters leave `<image>` marks out; the answer of a grounding row is its boxes as JSON.
 */
export class StatisticsBuilder {
  readonly #totalRows: number;
  readonly #images = new Set<string>();
  readonly #tasks = new Map<string, number>();
  readonly #samples: Sample[] = [];
  #rows = 0;
  #trainRows = 0;
  #pairs = 0;
  #boxes = 0;

  /** @param totalRows  of the version, so that samples are spread evenly over it */
  constructor(totalRows: number) {
    this.#totalRows = totalRows;
  }

  add(record: DataRecord): void {
    for (const { sha256 } of record.images) this.#images.add(sha256);
    this.#tasks.set(record.task, (this.#tasks.get(record.task) ?? 0) + 1);
    if (this.#isSampled(this.#rows)) this.#samples.push(sampleOf(record));
    this.#rows += 1;
    if (record.split === "train") this.#trainRows += 1;
    this.#pairs += record.groundings
      ? Math.max(1, record.groundings.length)
      : record.messages.filter(({ role }) => role === "assistant").length;
    this.#boxes += (record.groundings ?? []).reduce((sum, { boxes }) => sum + boxes.length, 0);
  }

  build(): DatasetStatistics {
    return {
      rows: this.#rows,
      trainRows: this.#trainRows,
      validationRows: this.#rows - this.#trainRows,
      images: this.#images.size,
      pairs: this.#pairs,
      boxes: this.#boxes,
      tasks: Object.fromEntries([...this.#tasks].toSorted(([a], [b]) => (a < b ? -1 : 1))),
      samples: this.#samples,
    };
  }

  #isSampled(index: number): boolean {
    if (this.#totalRows <= maxSamples) return true;
    return (
      Math.floor(((index + 1) * maxSamples) / this.#totalRows) > Math.floor((index * maxSamples) / this.#totalRows)
    );
  }
}

function sampleOf(record: DataRecord): Sample {
  const charactersOf = (isAnswer: boolean): number =>
    record.messages
      .filter(({ role }) => (role === "assistant") === isAnswer)
      .reduce((sum, { content }) => sum + content.replaceAll(/<image>\n?/g, "").length, 0);
  return {
    images: record.images.map(({ width, height }) => [width, height]),
    promptCharacters: charactersOf(false),
    answerCharacters: record.groundings
      ? writeGroundings(record.groundings, { convention: "json-relative-1000" }).length
      : charactersOf(true),
  };
}
