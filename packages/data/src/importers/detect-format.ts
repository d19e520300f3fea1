import { open } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import type { ImportFormat } from "@drydock/spec";
import { csvShapeOf, csvShapes } from "./csv.ts";
import { isPictureName, type DatasetFolder } from "./dataset-folder.ts";
import { isLlavaRow } from "./llava-json.ts";
import { isMessagesRow } from "./openai-jsonl.ts";
import { isViRow } from "./vi-jsonl.ts";
import { findClassNames } from "./yolo.ts";

export type KnownFormat = Exclude<ImportFormat, "auto">;

export interface DetectedFormat {
  readonly format: KnownFormat;
  /** A sentence: what was seen in which file. */
  readonly reason: string;
}

const headBytes = 256 * 1024;

/**
 * Finds the format of a data set from the beginnings of its files, and says why.
 *
 * @throws InvalidError `format_unknown` listing what was found, `format_ambiguous` naming the formats and their files
 */
export async function detectFormat(folder: DatasetFolder): Promise<DetectedFormat> {
  const found = new Map<KnownFormat, string>();
  for (const file of folder.files) {
    const detected = await detectFile(folder, file);
    if (detected && !found.has(detected.format)) found.set(detected.format, detected.reason);
  }
  const classNames = findClassNames(folder);
  if (found.size === 0 && classNames !== null && folder.files.some(isPictureName))
    found.set("yolo", `${classNames} names classes and there are pictures with text files`);
  const [only, ...others] = [...found];
  if (only === undefined) throw new InvalidError("format_unknown", unknownMessage(folder));
  if (others.length > 0)
    throw new InvalidError(
      "format_ambiguous",
      `more than one format was found: ${[...found].map(([format, reason]) => `${format} (${reason})`).join("; ")}. Say which with "format", or import them apart`,
    );
  return { format: only[0], reason: only[1] };
}

function unknownMessage(folder: DatasetFolder): string {
  if (folder.files.length === 0) return "the data set holds no files: upload pictures and their annotations";
  const pictures = folder.files.filter(isPictureName).length;
  const others = folder.files.filter((file) => !isPictureName(file));
  const listed =
    others.length === 0
      ? "no annotation file"
      : others.slice(0, 5).join(", ") + (others.length > 5 ? ` and ${others.length - 5} more` : "");
  return `no known format was found among ${pictures} pictures and ${listed}. Known: COCO (.json with images and annotations), YOLO (.txt files and classes.txt or data.yaml), Vi JSONL, LLaVA (.json or .jsonl with conversations), OpenAI messages (.jsonl), CSV (${Object.values(
    csvShapes,
  )
    .map((columns) => columns.join(","))
    .join(" or ")})`;
}

async function detectFile(folder: DatasetFolder, file: string): Promise<DetectedFormat | null> {
  const name = file.toLowerCase();
  if (name.endsWith(".csv")) {
    const header = (await readHead(folder, file)).split(/\r?\n/, 1)[0] ?? "";
    const shape = csvShapeOf(
      header
        .replace(/^\uFEFF/, "")
        .split(",")
        .map((column) => column.replaceAll('"', "")),
    );
    return shape && { format: "csv", reason: `${file} has the columns ${csvShapes[shape].join(",")}` };
  }
  if (name.endsWith(".jsonl")) return detectJsonLines(file, await readHead(folder, file));
  if (name.endsWith(".json")) {
    const head = await readHead(folder, file);
    if (/^\s*\[/.test(head) && head.includes('"conversations"'))
      return { format: "llava-json", reason: `${file} is a list of rows with conversations` };
    if (/^\s*\{/.test(head) && /"(?:images|annotations|categories|licenses|info)"\s*:/.test(head))
      return { format: "coco", reason: `${file} has images and annotations` };
  }
  return null;
}

function detectJsonLines(file: string, head: string): DetectedFormat | null {
  for (const line of head.split("\n")) {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      const byKey = detectByKey(file, line);
      if (byKey) return byKey;
      continue;
    }
    if (isViRow(value)) return { format: "vi-jsonl", reason: `rows of ${file} have asset and contents` };
    if (isLlavaRow(value)) return { format: "llava-json", reason: `rows of ${file} have conversations` };
    if (isMessagesRow(value)) return { format: "openai-jsonl", reason: `rows of ${file} have messages` };
  }
  return null;
}

/** A line too long for the head (a picture in base64) or broken still shows its first keys. */
function detectByKey(file: string, line: string): DetectedFormat | null {
  if (/"messages"\s*:\s*\[/.test(line)) return { format: "openai-jsonl", reason: `rows of ${file} have messages` };
  if (/"conversations"\s*:\s*\[/.test(line))
    return { format: "llava-json", reason: `rows of ${file} have conversations` };
  if (/"groundedPhrases"\s*:|"interactions"\s*:/.test(line))
    return { format: "vi-jsonl", reason: `rows of ${file} have asset and contents` };
  return null;
}

async function readHead(folder: DatasetFolder, file: string): Promise<string> {
  const handle = await open(folder.pathOf(file));
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    return buffer.subarray(0, bytesRead).toString("utf8");
  } finally {
    await handle.close();
  }
}
