import { z } from "zod";
import type { ImportOptions, RecordMessage } from "@drydock/spec";
import { taskOf } from "./llava-json.ts";
import { firstProblem, readJsonLines } from "./read-json.ts";
import { tagFields, tagsOf } from "./row-tags.ts";
import {
  rowError,
  splitOfField,
  splitOfPath,
  type ImageReference,
  type Importer,
  type SourceItem,
} from "./source-row.ts";

const Part = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.literal("image_url"), image_url: z.union([z.string(), z.object({ url: z.string() })]) }),
  z.object({ type: z.literal("image"), image: z.string().optional() }),
]);
const MessagesRow = z.object({
  messages: z
    .array(
      z.object({
        role: z.enum(["system", "developer", "user", "assistant"]),
        content: z.union([z.string(), z.array(Part)]),
      }),
    )
    .min(1),
  image: z.string().optional(),
  images: z.union([z.string(), z.array(z.string())]).optional(),
  split: z.string().optional(),
  ...tagFields,
});
type MessagesRow = z.infer<typeof MessagesRow>;

/** Whether a JSON value looks like an OpenAI-messages row. */
export function isMessagesRow(value: unknown): boolean {
  return typeof value === "object" && value !== null && Array.isArray((value as { messages?: unknown }).messages);
}

/**
 * OpenAI-messages JSONL. Pictures are `image_url` parts (a data URI, or a path of the data set), `{"type": "image",
 * "image": "path"}` parts, or an `images` list next to `messages`, taken up in order by `<image>` in text or by image
 * parts without a path. Parts are joined without anything between them, as chat templates do. Web addresses are refused:
 * nothing is fetched.
 */
export const importOpenaiJsonl: Importer = async function* (folder, options) {
  for (const file of folder.files.filter((name) => name.toLowerCase().endsWith(".jsonl"))) {
    for await (const item of readJsonLines(folder, file))
      yield item.kind === "issue" ? item : readMessagesRow(file, item.row, item.value, options);
  }
};

/** One row of OpenAI messages; a finding when it is none. */
export function readMessagesRow(
  file: string,
  row: number,
  value: unknown,
  options: Pick<ImportOptions, "task">,
): SourceItem {
  const parsed = MessagesRow.safeParse(value);
  if (!parsed.success) {
    const { path, message } = firstProblem(parsed.error);
    return rowError(file, row, "invalid_row", `${file}, line ${row}: ${path}: ${message}`, path);
  }
  const pictures = new PictureList(file, row, parsed.data);
  const messages: RecordMessage[] = [];
  for (const { role, content } of parsed.data.messages) {
    const text =
      typeof content === "string"
        ? content
        : content
            .map((part, index) =>
              part.type === "text" ? part.text : pictures.take(part) + breakAfter(content[index + 1]),
            )
            .join("");
    if (typeof content === "string") pictures.takeMarks(text);
    messages.push({ role: role === "developer" ? "system" : role, content: text });
  }
  const images = pictures.finish();
  if (pictures.problem) return pictures.problem;
  return {
    kind: "row",
    file,
    row,
    task: taskOf(messages, images.length, options.task),
    split: splitOfField(parsed.data.split) ?? splitOfPath(file),
    images,
    messages,
    ...tagsOf(parsed.data),
  };
}

type ImagePart = Extract<z.infer<typeof Part>, { type: "image_url" | "image" }>;

/** One line break after a mark belongs to the mark (`<image>\nText`); a text that starts with one of its own needs a second. */
function breakAfter(next: z.infer<typeof Part> | undefined): string {
  return next?.type === "text" && next.text.startsWith("\n") ? "\n" : "";
}

/** Pictures of one row in order of their marks. */
class PictureList {
  readonly #file: string;
  readonly #row: number;
  readonly #named: string[];
  readonly #images: ImageReference[] = [];
  problem: SourceItem | null = null;

  constructor(file: string, row: number, value: MessagesRow) {
    this.#file = file;
    this.#row = row;
    this.#named = [value.image ?? [], value.images ?? []].flat();
  }

  /** Adds the picture of a part; the mark that stands for it. */
  take(part: ImagePart): string {
    const own =
      part.type === "image" ? part.image : typeof part.image_url === "string" ? part.image_url : part.image_url.url;
    const source = own ?? this.#named.shift();
    if (source === undefined)
      this.problem ??= rowError(
        this.#file,
        this.#row,
        "image_count_mismatch",
        `${this.#file}, line ${this.#row}: an image part has no "image", and the list "images" has none left for it`,
        "images",
      );
    else this.#add(source);
    return "<image>";
  }

  /** `<image>` in plain text takes from the list of names. */
  takeMarks(text: string): void {
    for (const _mark of text.matchAll(/<image>/g)) {
      const source = this.#named.shift();
      if (source !== undefined) this.#add(source);
    }
  }

  /** All pictures; names that no mark took come last, so that a wrong number of marks is seen. */
  finish(): ImageReference[] {
    for (const source of this.#named.splice(0)) this.#add(source);
    return this.#images;
  }

  #add(source: string): void {
    const place = `${this.#file}, line ${this.#row}, image ${this.#images.length + 1}`;
    const refuse = (code: string, message: string): void => {
      this.problem ??= rowError(this.#file, this.#row, code, `${place}: ${message}`);
    };
    const encoded = /^data:image\/[a-z0-9.+-]+;base64,/i.exec(source.slice(0, 100));
    if (encoded) this.#images.push({ kind: "bytes", name: place, base64: source.slice(encoded[0].length) });
    else if (/^data:/i.test(source))
      refuse("invalid_data_uri", `"${source.slice(0, 40)}…" is not data:image/…;base64,…`);
    else if (/^(?!file:)[a-z][a-z0-9+.-]+:\/\//i.test(source))
      refuse(
        "image_url_refused",
        `"${source.slice(0, 120)}" is a web address, and importing fetches nothing. Download the picture and name its file, or put it into the row as data:image/…;base64,…`,
      );
    else this.#images.push({ kind: "file", name: source.replace(/^file:\/\//i, ""), namedIn: this.#file });
  }
}
