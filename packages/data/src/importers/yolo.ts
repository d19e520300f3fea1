import { readFile } from "node:fs/promises";
import { posix } from "node:path";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import { InvalidError, messageOf } from "@drydock/kit";
import type { Box } from "@drydock/spec";
import { isPictureName, stemOf, type DatasetFolder } from "./dataset-folder.ts";
import { readLines } from "../text-lines.ts";
import {
  groundingMessages,
  note,
  rowError,
  splitOfPath,
  type Importer,
  type SourceBox,
  type SourceIssue,
} from "./source-row.ts";

const DataYaml = z.object({ names: z.union([z.array(z.string()), z.record(z.string(), z.string())]) });

/**
 * YOLO: one `.txt` per picture with lines `class cx cy width height` in fractions, and the class names in `classes.txt`
 * (one per line) or `data.yaml` (`names`, a list or a map). The text file lies beside the picture, or in `labels/` where
 * the picture is in `images/`. A picture without one has no objects.
 *
 * @throws InvalidError `class_names_missing`, `broken_yaml`
 */
export const importYolo: Importer = async function* (folder, options) {
  const names = await readClassNames(folder);
  const pictures = folder.files.filter(isPictureName);
  const labels = new Set(pictures.map((picture) => labelOf(folder, picture)).filter((label) => label !== null));
  for (const file of folder.files) {
    if (
      file.endsWith(".txt") &&
      !labels.has(file) &&
      !isClassNames(file) &&
      /^\s*\d+(?:\s+[\d.eE+-]+){4}/.test((await readFile(folder.pathOf(file), "utf8")).slice(0, 200))
    )
      yield note(
        file,
        null,
        "orphan_annotation",
        `${file} has boxes but there is no picture named ${stemOf(file)}; it is left out`,
      );
  }
  for (const [index, picture] of pictures.entries()) {
    const split = splitOfPath(`${posix.dirname(picture)}/`);
    const label = labelOf(folder, picture);
    const phrases = new Map<string, SourceBox[]>();
    const problems: SourceIssue[] = label === null ? [] : await readLabel(folder, label, names, phrases);
    const [problem] = problems;
    if (problem) {
      yield problem;
      continue;
    }
    if (phrases.size === 0)
      yield note(
        picture,
        null,
        "picture_without_boxes",
        `${picture} has no boxes; it teaches the answer "nothing found"`,
      );
    const groundings =
      phrases.size > 0
        ? [...phrases].map(([phrase, boxes]) => ({ phrase, boxes }))
        : [...names.values()].slice(0, 10).map((phrase) => ({ phrase, boxes: [] }));
    yield {
      kind: "row",
      file: label ?? picture,
      row: label === null ? index + 1 : 1,
      task: "phrase-grounding",
      split,
      images: [{ kind: "file", name: picture, namedIn: "." }],
      messages: groundingMessages(
        groundings.map(({ phrase }) => phrase),
        options,
      ),
      groundings,
    };
  }
};

function isClassNames(file: string): boolean {
  return ["classes.txt", "obj.names", "_darknet.labels"].includes(posix.basename(file).toLowerCase());
}

/** Whether a folder holds what YOLO needs; the file that says so. */
export function findClassNames(folder: DatasetFolder): string | null {
  return (
    folder.files.find((file) => isClassNames(file)) ??
    folder.files.find((file) => /(?:^|\/)data\.ya?ml$/i.test(file)) ??
    null
  );
}

async function readClassNames(folder: DatasetFolder): Promise<Map<number, string>> {
  const file = findClassNames(folder);
  if (file === null)
    throw new InvalidError(
      "class_names_missing",
      "YOLO needs the class names: add classes.txt (one name per line) or data.yaml with names",
    );
  const text = await readFile(folder.pathOf(file), "utf8");
  if (isClassNames(file)) {
    return new Map(
      text
        .split(/\r?\n/)
        .map((name, index) => [index, name.trim()] as const)
        .filter(([, name]) => name !== ""),
    );
  }
  const parsed = DataYaml.safeParse(loadYaml(file, text));
  if (!parsed.success)
    throw new InvalidError(
      "class_names_missing",
      `${file} has no usable names: write names as a list or as a map from number to name`,
    );
  return new Map(Object.entries(parsed.data.names).map(([index, name]) => [Number(index), name] as const));
}

function loadYaml(file: string, text: string): unknown {
  try {
    return parseYaml(text, { maxAliasCount: 10 }) as unknown;
  } catch (error) {
    throw new InvalidError("broken_yaml", `${file} is not valid YAML: ${messageOf(error)}`, { cause: error });
  }
}

function labelOf(folder: DatasetFolder, picture: string): string | null {
  const text = `${picture.slice(0, picture.length - posix.extname(picture).length)}.txt`;
  const parts = text.split("/");
  const images = parts.lastIndexOf("images");
  const inLabels = images === -1 ? text : parts.with(images, "labels").join("/");
  return [inLabels, text].find((candidate) => folder.has(candidate)) ?? null;
}

async function readLabel(
  folder: DatasetFolder,
  file: string,
  names: ReadonlyMap<number, string>,
  phrases: Map<string, SourceBox[]>,
): Promise<SourceIssue[]> {
  const problems: SourceIssue[] = [];
  for await (const { line, text } of readLines(folder.pathOf(file), file)) {
    if (text.trim() === "") continue;
    const values = text.trim().split(/\s+/);
    const numbers = values.map(Number);
    if (values.length !== 5 || numbers.some((value) => !Number.isFinite(value))) {
      problems.push(
        rowError(
          file,
          line,
          "broken_line",
          `${file}, line ${line}: "${text.trim().slice(0, 80)}" is not "class cx cy width height"${values.length > 5 ? " (polygons are not supported: export boxes)" : ""}`,
        ),
      );
      continue;
    }
    const [index = 0, centreX = 0, centreY = 0, width = 0, height = 0] = numbers;
    const phrase = names.get(index);
    if (phrase === undefined) {
      problems.push(
        rowError(
          file,
          line,
          "unknown_category",
          `${file}, line ${line}: class ${index} has no name; the class list has ${names.size}`,
        ),
      );
      continue;
    }
    const box: Box = [centreX - width / 2, centreY - height / 2, centreX + width / 2, centreY + height / 2];
    const boxes = phrases.get(phrase) ?? [];
    boxes.push({
      box,
      unit: "fraction",
      written: `line ${line} [${values.slice(1).join(", ")}] (cx, cy, width, height)`,
    });
    phrases.set(phrase, boxes);
  }
  return problems;
}
