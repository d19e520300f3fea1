import { z } from "zod";

/** RFC 3339 time in UTC. */
export const Timestamp = z.iso.datetime().meta({ description: "RFC 3339 time in UTC" });

/** Lower-case name of a data set, model or run: letters, digits, `-`, `.`; at most 63 characters. */
export const Name = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?$/,
    "use 1-63 lower-case letters, digits, dots and dashes, starting and ending with a letter or digit",
  )
  .meta({ id: "Name" });

/** `name@version` of a data set, e.g. `weld@3`. Without a version the newest ready one is taken, and its number is stored. */
export const DatasetReference = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?(?:@[1-9][0-9]*)?$/, "use name@version, e.g. weld@3")
  .meta({ id: "DatasetReference" });

export const Task = z.enum(["phrase-grounding", "vqa", "chat"]).meta({ id: "Task" });
export type Task = z.infer<typeof Task>;

/** A box in the original picture, fractions 0..1 of its width and height: left, top, right, bottom. */
export const Box = z.tuple([z.number(), z.number(), z.number(), z.number()]).meta({ id: "Box" });
export type Box = z.infer<typeof Box>;

/** RFC 9457 problem, the body of every error answer. */
export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.string(),
    detail: z.string(),
    requestId: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), code: z.string(), message: z.string() })),
  })
  .meta({ id: "Problem" });
export type Problem = z.infer<typeof Problem>;

/** Query of every list route. `cursor` is the `nextCursor` of the page before. */
export const PageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  cursor: z.string().max(512).optional(),
});

/** One page of a list. `nextCursor` is null on the last one. */
export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() });
}
