import { z } from "zod";
import { Box } from "./common.ts";

/** One picture of a record, stored by content in `datasets/<datasetId>/images/<sha256>.<ext>`. */
export const RecordImage = z.object({
  /** Key in object storage, or a path relative to the folder of the records file. */
  key: z.string(),
  sha256: z.string(),
  /** As the user named it; the word used in messages. */
  fileName: z.string(),
  /** Pixels, after EXIF rotation. */
  width: z.int().positive(),
  height: z.int().positive(),
  sizeBytes: z.int().positive(),
});
export type RecordImage = z.infer<typeof RecordImage>;

/** A phrase and its boxes in one picture. */
export const Grounding = z.object({ phrase: z.string(), boxes: z.array(Box) });
export type Grounding = z.infer<typeof Grounding>;

/** One turn. `content` may hold `<image>`, one for each picture in order, in user turns only. */
export const RecordMessage = z.object({ role: z.enum(["system", "user", "assistant"]), content: z.string() });
export type RecordMessage = z.infer<typeof RecordMessage>;

/**
 * The one internal form of a row of any data set. Boxes are fractions 0..1 of the original picture; they are turned
 * into the model's own convention when tokens are made. For `phrase-grounding` rows the assistant turn is made from
 * `groundings`, and `messages` holds only the user's turn.
 */
export const DataRecord = z.object({
  /** Stable: sha256 of the content, first 16 hex digits, then `-n` for the n-th duplicate. */
  rowId: z.string(),
  split: z.enum(["train", "validation"]),
  task: z.enum(["phrase-grounding", "vqa", "chat"]),
  /** Where the row came from, for messages: file and 1-based line or index. */
  source: z.object({ file: z.string(), row: z.int().positive() }),
  images: z.array(RecordImage),
  messages: z.array(RecordMessage).min(1),
  groundings: z.array(Grounding).optional(),
  /** Words that slices of an evaluation are made by (`night`, `line-3`); absent = none. */
  tags: z.array(z.string().min(1).max(64)).max(32).optional(),
});
export type DataRecord = z.infer<typeof DataRecord>;
