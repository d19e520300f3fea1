import { z } from "zod";
import type { Box } from "@drydock/spec";
import type { DatasetFolder } from "./dataset-folder.ts";
import { firstProblem, readJsonFile } from "./read-json.ts";
import {
  groundingMessages,
  note,
  rowError,
  splitOfPath,
  type Importer,
  type SourceBox,
  type SourceItem,
} from "./source-row.ts";

const Identifier = z.union([z.int(), z.string()]);
const CocoFile = z.object({
  images: z.array(
    z.object({
      id: Identifier,
      file_name: z.string().min(1),
      width: z.number().optional(),
      height: z.number().optional(),
    }),
  ),
  annotations: z.array(
    z.object({
      id: Identifier.optional(),
      image_id: Identifier,
      category_id: Identifier.optional(),
      bbox: z.array(z.number()).length(4).optional(),
      iscrowd: z.union([z.number(), z.boolean()]).optional(),
      caption: z.string().optional(),
    }),
  ),
  categories: z.array(z.object({ id: Identifier, name: z.string().min(1) })).default([]),
});
type CocoFile = z.infer<typeof CocoFile>;
type Annotation = CocoFile["annotations"][number];

/** Whether a JSON value looks like a COCO file. */
function isCoco(value: unknown): boolean {
  return typeof value === "object" && value !== null && "images" in value && "annotations" in value;
}

/**
 * COCO detection JSON: `images`, `annotations` with `bbox: [x, y, width, height]` in pixels, `categories`. One grounding
 * row per picture, one phrase per category. Crowd boxes and captions are left out with a note; a picture without
 * annotations becomes a row whose right answer is "nothing found".
 */
export const importCoco: Importer = async function* (folder, options) {
  for (const file of folder.files.filter((name) => name.toLowerCase().endsWith(".json"))) {
    const whole = await readJsonFile(folder, file);
    if (whole.kind === "issue") {
      yield whole;
      continue;
    }
    if (!isCoco(whole.value)) continue;
    const parsed = CocoFile.safeParse(whole.value);
    if (parsed.success) yield* rowsOf(folder, file, parsed.data, options);
    else {
      const { path, message } = firstProblem(parsed.error);
      yield rowError(
        file,
        1,
        "not_coco",
        `${file}: ${path}: ${message}. A COCO file has images[{id, file_name}], annotations[{image_id, category_id, bbox}] and categories[{id, name}]`,
        path,
      );
    }
  }
};

function* rowsOf(
  _folder: DatasetFolder,
  file: string,
  coco: CocoFile,
  options: Parameters<Importer>[1],
): Iterable<SourceItem> {
  const split = splitOfPath(file);
  const names = new Map(coco.categories.map(({ id, name }) => [id, name]));
  const knownImages = new Set(coco.images.map(({ id }) => id));
  const byImage = Map.groupBy(coco.annotations, ({ image_id: image }) => image);
  for (const [index, annotation] of coco.annotations.entries()) {
    if (!knownImages.has(annotation.image_id))
      yield note(
        file,
        index + 1,
        "orphan_annotation",
        `${file}: annotation ${index + 1} names picture id ${annotation.image_id}, which images does not list; it is left out`,
        `annotations.${index}`,
      );
  }
  for (const [index, image] of coco.images.entries()) {
    const phrases = new Map<string, SourceBox[]>();
    for (const annotation of byImage.get(image.id) ?? []) {
      const problem = leftOut(annotation, names);
      if (problem !== null)
        yield note(
          file,
          index + 1,
          problem.code,
          `${file}: picture ${image.file_name}: ${problem.message}`,
          "annotations",
        );
      else addBox(phrases, annotation, names);
    }
    if (phrases.size === 0)
      yield note(
        file,
        index + 1,
        "picture_without_boxes",
        `${file}: picture ${image.file_name} has no boxes; it teaches the answer "nothing found"`,
      );
    const groundings =
      phrases.size > 0
        ? [...phrases].map(([phrase, boxes]) => ({ phrase, boxes }))
        : [...names.values()].slice(0, 10).map((phrase) => ({ phrase, boxes: [] }));
    yield {
      kind: "row",
      file,
      row: index + 1,
      task: "phrase-grounding",
      split,
      images: [{ kind: "file", name: image.file_name, namedIn: file }],
      messages: groundingMessages(
        groundings.map(({ phrase }) => phrase),
        options,
      ),
      groundings,
      ...(image.width !== undefined && image.height !== undefined
        ? { statedSize: { width: image.width, height: image.height } }
        : {}),
    };
  }
}

function leftOut(
  annotation: Annotation,
  names: ReadonlyMap<string | number, string>,
): { code: string; message: string } | null {
  if (annotation.iscrowd === 1 || annotation.iscrowd === true)
    return { code: "crowd_box", message: "a crowd box (iscrowd 1) marks no single object and is left out" };
  if (!annotation.bbox)
    return { code: "annotation_without_box", message: "an annotation without bbox (a caption?) is left out" };
  if (annotation.category_id === undefined || !names.has(annotation.category_id))
    return {
      code: "unknown_category",
      message: `category id ${annotation.category_id ?? "(none)"} is not in categories; the box is left out`,
    };
  return null;
}

function addBox(
  phrases: Map<string, SourceBox[]>,
  annotation: Annotation,
  names: ReadonlyMap<string | number, string>,
): void {
  const phrase = names.get(annotation.category_id ?? "") ?? "";
  const [x = 0, y = 0, width = 0, height = 0] = annotation.bbox ?? [];
  const box: Box = [x, y, x + width, y + height];
  const boxes = phrases.get(phrase) ?? [];
  boxes.push({ box, unit: "pixels", written: `bbox [${[x, y, width, height].join(", ")}] (x, y, width, height)` });
  phrases.set(phrase, boxes);
}
