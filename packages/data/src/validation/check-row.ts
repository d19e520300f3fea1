import type { RowProblem } from "./row-problem.ts";
import type { Grounding, ImportOptions, RecordMessage, Task } from "@drydock/spec";
import type { SourceRow } from "../importers/source-row.ts";
import { checkGroundings } from "./check-boxes.ts";
import type { InspectedImage } from "./inspect-image.ts";

/** What a row is worth once its pictures are known. */
export interface CheckedRow {
  readonly task: Task;
  readonly messages: RecordMessage[];
  readonly groundings: Grounding[] | undefined;
  readonly warnings: readonly RowProblem[];
}

const imageMark = /<image>/g;

/** Checks a row whose pictures decode. Answers the row in its stored form, or the first thing that is wrong with it. */
export function checkRow(
  row: SourceRow,
  images: readonly InspectedImage[],
  options: Pick<ImportOptions, "task">,
): CheckedRow | RowProblem {
  const task = options.task ?? row.task;
  const warnings: RowProblem[] = imageWarnings(images);
  const wrongTask = checkTask(row, task, images.length);
  if (wrongTask) return wrongTask;
  const turns = checkTurns(row, task);
  if (turns) return turns;
  const marked = checkMarks(row.messages, images.length);
  if ("code" in marked) return marked;
  if (marked.isAdded)
    warnings.push({
      code: "image_mark_added",
      path: "messages",
      message: `no turn holds <image>; ${images.length === 1 ? "it is" : "they are"} put before the first question`,
    });
  const [picture] = images;
  if (!row.groundings || !picture) return { task, messages: marked.messages, groundings: undefined, warnings };
  const size = checkStatedSize(row, picture);
  if (size && row.groundings.some(({ boxes }) => boxes.some(({ unit }) => unit === "pixels"))) return size;
  if (size) warnings.push(size);
  const checked = checkGroundings(row.groundings, picture);
  return "code" in checked ? checked : { task, messages: marked.messages, groundings: checked.groundings, warnings };
}

function imageWarnings(images: readonly InspectedImage[]): RowProblem[] {
  return images
    .filter(({ pages }) => pages > 1)
    .map(({ pages }) => ({
      code: "image_animated",
      path: "images",
      message: `the picture has ${pages} frames or pages; only the first is used`,
    }));
}

function checkTask(row: SourceRow, task: Task, images: number): RowProblem | null {
  if (task === "phrase-grounding" && !row.groundings)
    return {
      code: "no_boxes",
      path: null,
      message: `task is phrase-grounding but the row has no boxes: import boxes, or use task "vqa" or "chat"`,
    };
  if (task !== "phrase-grounding" && row.groundings)
    return {
      code: "task_mismatch",
      path: null,
      message: `the row holds phrases and boxes but the task is ${task}: use task "phrase-grounding" or leave it out`,
    };
  if (task === "phrase-grounding" && images !== 1)
    return {
      code: "image_count_mismatch",
      path: "images",
      message: `a phrase-grounding row needs exactly one picture and has ${images}`,
    };
  if (task === "vqa" && images === 0)
    return {
      code: "image_missing",
      path: "images",
      message: 'a vqa row needs a picture: name one, or use task "chat" for text alone',
    };
  return null;
}

function checkTurns(row: SourceRow, task: Task): RowProblem | null {
  for (const [index, message] of row.messages.entries()) {
    const problem = checkTurn(message, index, task);
    if (problem) return problem;
  }
  const turns = row.messages.filter(({ role }) => role !== "system");
  if (turns.length === 0) return outOfOrder("messages", "the row has no user turn");
  for (const [index, { role }] of turns.entries()) {
    const wanted = index % 2 === 0 ? "user" : "assistant";
    if (role !== wanted)
      return outOfOrder(
        "messages",
        `user and assistant must alternate, beginning with user; turn ${index + 1} is ${role} where ${wanted} was expected`,
      );
  }
  if (row.groundings || turns.length % 2 === 0) return null;
  const message = "the last turn is the user's: add the assistant's answer, or remove the row";
  return { code: "empty_answer", path: "messages", message };
}

function checkTurn({ role, content }: RecordMessage, index: number, task: Task): RowProblem | null {
  const path = `messages.${index}`;
  if (role === "system" && index > 0)
    return outOfOrder(path, `turn ${index + 1} is a system turn: only the first may be`);
  if (role !== "user" && content.includes("<image>")) {
    const message = `turn ${index + 1} (${role}) holds <image>: pictures may stand in user turns only`;
    return { code: "image_mark_outside_question", path, message };
  }
  if (role === "assistant" && content.trim() === "") {
    const message = "the answer is empty: write what the model should say, or remove the row";
    return { code: "empty_answer", path, message };
  }
  if (role === "user" && task !== "chat" && content.replaceAll(imageMark, "").trim() === "")
    return { code: "empty_question", path, message: "the question is empty: write what is asked, or remove the row" };
  return null;
}

function outOfOrder(path: string, message: string): RowProblem {
  return { code: "roles_out_of_order", path, message };
}

function checkMarks(
  messages: readonly RecordMessage[],
  images: number,
): { messages: RecordMessage[]; isAdded: boolean } | RowProblem {
  const marks = messages.reduce((sum, { content }) => sum + [...content.matchAll(imageMark)].length, 0);
  if (marks === images) return { messages: [...messages], isAdded: false };
  if (marks === 0) {
    const first = messages.findIndex(({ role }) => role === "user");
    return {
      isAdded: true,
      messages: messages.map((message, index) =>
        index === first ? { ...message, content: `${"<image>\n".repeat(images)}${message.content}` } : message,
      ),
    };
  }
  return {
    code: "image_count_mismatch",
    path: "messages",
    message: `the row names ${images} ${images === 1 ? "picture" : "pictures"} but its turns hold ${marks} <image> ${marks === 1 ? "mark" : "marks"}: make the numbers equal`,
  };
}

function checkStatedSize(row: SourceRow, picture: InspectedImage): RowProblem | null {
  const stated = row.statedSize;
  if (!stated || (stated.width === picture.width && stated.height === picture.height)) return null;
  const sizes = `the annotations say ${stated.width}×${stated.height} pixels, the picture has ${picture.width}×${picture.height}`;
  const isTurned = picture.orientation >= 5 && stated.width === picture.height && stated.height === picture.width;
  return isTurned
    ? {
        code: "exif_rotation_mismatch",
        path: "images",
        message: `${sizes} once turned by its EXIF orientation ${picture.orientation}: its boxes belong to the unturned one. Save the picture without EXIF rotation, or annotate the turned one`,
      }
    : {
        code: "image_size_mismatch",
        path: "images",
        message: `${sizes}: boxes would be in the wrong place. Use the picture that was annotated`,
      };
}
