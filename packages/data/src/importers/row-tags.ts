import { z } from "zod";

/**
 * Words that slices of an evaluation are made by. They stand in a row's `tags` or in `tags` of its `metadata`, as a list or as one text
 * with commas between.
 */
const Tags = z
  .union(
    [z.string().transform((text) => text.split(",")), z.array(z.union([z.string(), z.number(), z.boolean()]))],
    'tags are a list of words, or one text with commas between, e.g. ["night", "line-3"]',
  )
  .transform((tags) => [...new Set(tags.map((tag) => String(tag).trim()).filter((tag) => tag !== ""))])
  .pipe(z.array(z.string().max(64, "a tag has at most 64 characters")).max(32, "a row has at most 32 tags"));

/** Fields of a row that may hold tags. */
export const tagFields = {
  tags: Tags.nullish(),
  // Other tools keep anything there; only an object can hold tags.
  metadata: z.preprocess(
    (value) => (typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined),
    z.looseObject({ tags: Tags.nullish() }).optional(),
  ),
};

/** The tags of a row, as its importer hands them on: nothing when there are none. */
export function tagsOf(row: {
  readonly tags?: readonly string[] | null | undefined;
  readonly metadata?: { readonly tags?: readonly string[] | null | undefined } | undefined;
}): { readonly tags?: readonly string[] } {
  const tags = [...new Set([...(row.tags ?? []), ...(row.metadata?.tags ?? [])])].slice(0, 32);
  return tags.length === 0 ? {} : { tags };
}
