import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  collate,
  readFloatTensors,
  readSafetensorsHeader,
  readTensorBytes,
  type EncodedRow,
  type Model,
  type ModelBatch,
} from "@drydock/engine";

export const caseNames = ["one-image", "two-images", "text", "batch"] as const;
export type CaseName = (typeof caseNames)[number];

/** One batch of the reference with what it made of it. */
export interface ParityCase {
  readonly rows: readonly EncodedRow[];
  readonly batch: ModelBatch;
  /** `[B, T, vocabulary]`, 0 where there is no token. */
  readonly logits: Float32Array;
  /** Only of the case `batch`, and of families that take adapters. */
  readonly adapterLogits: Float32Array | null;
  /** Tokens of the greedy search by row. */
  readonly greedy: readonly (readonly number[])[];
}

export interface Curve {
  readonly learningRate: number;
  /** Loss and gradient norm of each step. */
  readonly steps: readonly (readonly [number, number])[];
}

export interface Curves {
  readonly loss: number;
  readonly full: Curve;
  readonly lora?: Curve;
}

/** Reads a case that `case.py` wrote, as the engine takes it. */
export async function readParityCase(directory: string, name: CaseName, model: Model): Promise<ParityCase> {
  const header = await readSafetensorsHeader(join(directory, "cases.safetensors"));
  const integers = async (key: string): Promise<number[]> =>
    header.tensors.has(`${name}/${key}`)
      ? Array.from(new BigInt64Array((await readTensorBytes(header, `${name}/${key}`)).slice().buffer), Number)
      : [];
  const wanted = ["patches", "logits", "adapter-logits"].filter((key) => header.tensors.has(`${name}/${key}`));
  const floats = await readFloatTensors(
    header,
    wanted.map((key) => `${name}/${key}`),
  );
  const [ids, lengths, labels, pictures, greedy] = (await Promise.all(
    ["ids", "lengths", "labels", "pictures", "greedy"].map(integers),
  )) as [number[], number[], number[], number[], number[]];
  const rows = rowsOf(model, { ids, lengths, labels, pictures }, floats.get(`${name}/patches`) ?? new Float32Array(0));
  const steps = greedy.length / lengths.length;
  return {
    rows,
    batch: collate(rows, model),
    logits: floats.get(`${name}/logits`) as Float32Array,
    adapterLogits: floats.get(`${name}/adapter-logits`) ?? null,
    greedy: lengths.map((_, row) => greedy.slice(row * steps, (row + 1) * steps)),
  };
}

export async function readCurves(directory: string): Promise<Curves> {
  return JSON.parse(await readFile(join(directory, "curves.json"), "utf8")) as Curves;
}

export async function readFloats(path: string): Promise<Map<string, Float32Array>> {
  const header = await readSafetensorsHeader(path);
  return await readFloatTensors(header, header.tensors.keys());
}

/** Numbers that `case.py` writes for a picture: row, time, height, width, columns, rows, tokens. */
const pictureNumbers = 7;

function rowsOf(
  model: Model,
  parts: Readonly<Record<"ids" | "lengths" | "labels" | "pictures", readonly number[]>>,
  patches: Float32Array,
): EncodedRow[] {
  const longest = parts.ids.length / parts.lengths.length;
  const pictures = Array.from({ length: parts.pictures.length / pictureNumbers }, (_, index) => {
    const numbers = parts.pictures.slice(index * pictureNumbers, (index + 1) * pictureNumbers);
    const [row = 0, time = 0, height = 0, width = 0, columns = 0, tileRows = 0, tokens = 0] = numbers;
    return { row, grid: { time, height, width }, tiling: { columns, rows: tileRows }, tokens };
  });
  const patchesInAll = pictures.reduce((sum, { grid }) => sum + grid.time * grid.height * grid.width, 0);
  const patchWidth = patchesInAll === 0 ? 0 : patches.length / patchesInAll;
  let used = 0;
  return parts.lengths.map((length, row): EncodedRow => {
    const inputIds = parts.ids.slice(row * longest, row * longest + length);
    const own = parts.labels.slice(row * longest, row * longest + length);
    const places = inputIds.flatMap((id, position) => (id === model.imageTokenId ? [position] : []));
    const images = pictures
      .filter((picture) => picture.row === row)
      .map(({ grid, tokens, tiling }) => ({
        grid,
        tokens,
        ...(tiling.columns > 0 ? { tiling } : {}),
        patches: patches.slice(used, (used += grid.time * grid.height * grid.width * patchWidth)),
        resized: { width: 0, height: 0 },
      }));
    let placed = 0;
    return {
      name: `row ${row}`,
      inputIds,
      labels: own.map((_label, position) => own[position + 1] ?? -100),
      images,
      imagePositions: images.map(({ tokens }) => places.slice(placed, (placed += tokens))),
    };
  });
}
