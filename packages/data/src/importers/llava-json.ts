import { z } from "zod";
import type { ImportOptions, RecordMessage, Task } from "@drydock/spec";
import { firstProblem, readJsonRows } from "./read-json.ts";
import { tagFields, tagsOf } from "./row-tags.ts";
import { rowError, splitOfField, splitOfPath, type Importer, type SourceItem } from "./source-row.ts";

const Names = z.union([z.string().min(1), z.array(z.string().min(1))]);
const LlavaRow = z.object({
  conversations: z.array(z.object({ from: z.string(), value: z.string() })).min(1),
  image: Names.optional(),
  images: Names.optional(),
  video: z.unknown().optional(),
  system: z.string().optional(),
  split: z.string().optional(),
  ...tagFields,
});
type LlavaRow = z.infer<typeof LlavaRow>;

const roles: Readonly<Record<string, RecordMessage["role"]>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  assistant: "assistant",
  model: "assistant",
  system: "system",
};

/** Whether a JSON value looks like a LLaVA (ShareGPT) row. */
export function isLlavaRow(value: unknown): boolean {
  return typeof value === "object" && value !== null && "conversations" in value;
}

/** LLaVA / ShareGPT conversations, a `.json` list or `.jsonl`: `image` or `images`, `<image>` marks in human turns. */
export const importLlavaJson: Importer = async function* (folder, options) {
  for (const file of folder.files.filter((name) => /\.jsonl?$/i.test(name))) {
    for await (const item of readJsonRows(folder, file)) {
      if (item.kind === "issue") yield item;
      else yield* readRow(file, item.row, item.value, options);
    }
  }
};

function* readRow(file: string, row: number, value: unknown, options: ImportOptions): Iterable<SourceItem> {
  if (Array.isArray(value)) {
    yield rowError(
      file,
      row,
      "packed_row",
      `${file}, row ${row} is a list of rows (pre-packed data): write each row by itself; packing happens in training`,
    );
    return;
  }
  const parsed = LlavaRow.safeParse(value);
  if (!parsed.success) {
    const { path, message } = firstProblem(parsed.error);
    yield rowError(
      file,
      row,
      "invalid_row",
      `${file}, row ${row}: ${path}: ${message}. A LLaVA row has conversations[{from, value}] and image`,
      path,
    );
    return;
  }
  yield toRow(file, row, parsed.data, options);
}

function toRow(file: string, row: number, llava: LlavaRow, options: ImportOptions): SourceItem {
  if (llava.video !== undefined)
    return rowError(
      file,
      row,
      "video_unsupported",
      `${file}, row ${row} has a video; only pictures are supported. Extract frames and list them as images`,
      "video",
    );
  const messages: RecordMessage[] = llava.system === undefined ? [] : [{ role: "system", content: llava.system }];
  for (const [index, { from, value }] of llava.conversations.entries()) {
    const role = Object.hasOwn(roles, from) ? roles[from] : undefined;
    if (role === undefined)
      return rowError(
        file,
        row,
        "unknown_role",
        `${file}, row ${row}: "from" is "${from}"; use human, gpt or system`,
        `conversations.${index}.from`,
      );
    messages.push({ role, content: value });
  }
  const names = [llava.image ?? [], llava.images ?? []].flat();
  return {
    kind: "row",
    file,
    row,
    task: taskOf(messages, names.length, options.task),
    split: splitOfField(llava.split) ?? splitOfPath(file),
    images: names.map((name) => ({ kind: "file", name, namedIn: file })),
    messages,
    ...tagsOf(llava),
  };
}

/** What a conversation is when nobody says: one question about pictures is `vqa`, anything else `chat`. */
export function taskOf(messages: readonly RecordMessage[], images: number, wanted: Task | undefined): Task {
  if (wanted !== undefined) return wanted;
  return images > 0 && messages.filter(({ role }) => role === "assistant").length === 1 ? "vqa" : "chat";
}
