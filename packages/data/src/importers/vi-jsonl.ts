import { z } from "zod";
import type { Box, ImportOptions } from "@drydock/spec";
import { firstProblem, readJsonLines } from "./read-json.ts";
import { tagFields, tagsOf } from "./row-tags.ts";
import {
  groundingMessages,
  rowError,
  splitOfField,
  splitOfPath,
  type Importer,
  type SourceBox,
  type SourceItem,
} from "./source-row.ts";

const Point = z.tuple([z.number(), z.number()]);
const ViRow = z.object({
  id: z.union([z.string(), z.int()]).optional(),
  split: z.string().optional(),
  ...tagFields,
  asset: z.object({ filename: z.string().min(1), width: z.number().optional(), height: z.number().optional() }),
  contents: z.discriminatedUnion("type", [
    z.object({
      type: z.literal("PhraseGrounding"),
      caption: z.string().default(""),
      groundedPhrases: z.array(z.object({ phrase: z.string(), bounds: z.array(z.array(Point).length(4)) })),
    }),
    z.object({
      type: z.literal("Vqa"),
      interactions: z
        .array(z.object({ order: z.number().optional(), question: z.string(), answer: z.string() }))
        .min(1),
    }),
  ]),
});
type ViRow = z.infer<typeof ViRow>;

/** Whether a JSON value looks like a row of Vi JSONL. */
export function isViRow(value: unknown): boolean {
  return typeof value === "object" && value !== null && "asset" in value && "contents" in value;
}

/**
 * Vi JSONL: one picture per line, `contents` of type `PhraseGrounding` (boxes as four corners) or `Vqa` (each question
 * becomes a row of its own). Corners are fractions; when one is above 1 the row is read as pixels.
 */
export const importViJsonl: Importer = async function* (folder, options) {
  for (const file of folder.files.filter((name) => name.toLowerCase().endsWith(".jsonl"))) {
    for await (const item of readJsonLines(folder, file)) {
      if (item.kind === "issue") {
        yield item;
        continue;
      }
      const parsed = ViRow.safeParse(item.value);
      if (parsed.success) yield* rowsOf(file, item.row, parsed.data, options);
      else {
        const { path, message } = firstProblem(parsed.error);
        yield rowError(file, item.row, "invalid_row", `${file}, line ${item.row}: ${path}: ${message}`, path);
      }
    }
  }
};

function* rowsOf(file: string, row: number, vi: ViRow, options: ImportOptions): Iterable<SourceItem> {
  const { asset, contents } = vi;
  const base = {
    kind: "row",
    file,
    row,
    split: splitOfField(vi.split) ?? splitOfPath(file),
    images: [{ kind: "file", name: asset.filename, namedIn: file }],
    ...(asset.width !== undefined && asset.height !== undefined
      ? { statedSize: { width: asset.width, height: asset.height } }
      : {}),
    ...tagsOf(vi),
  } as const;
  if (contents.type === "Vqa") {
    for (const { question, answer } of contents.interactions.toSorted((a, b) => (a.order ?? 0) - (b.order ?? 0))) {
      yield {
        ...base,
        task: "vqa",
        messages: [
          { role: "user", content: `<image>\n${question}` },
          { role: "assistant", content: answer },
        ],
      };
    }
    return;
  }
  const isPixels = contents.groundedPhrases.some(({ bounds }) => bounds.flat(2).some((value) => value > 1.5));
  const groundings = contents.groundedPhrases.map(({ phrase, bounds }) => ({
    phrase,
    boxes: bounds.map((corners) => boxOf(corners, isPixels)),
  }));
  yield {
    ...base,
    task: "phrase-grounding",
    messages: groundingMessages(
      groundings.map(({ phrase }) => phrase),
      options,
    ),
    groundings,
  };
}

function boxOf(corners: readonly (readonly [number, number])[], isPixels: boolean): SourceBox {
  const xs = corners.map(([x]) => x);
  const ys = corners.map(([, y]) => y);
  const box: Box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  return {
    box,
    unit: isPixels ? "pixels" : "fraction",
    written: `bounds [${box.join(", ")}] (left, top, right, bottom)`,
  };
}
