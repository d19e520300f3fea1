import { z } from "zod";

/** Lower-case hex SHA-256. */
const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/**
 * A model folder in object storage: `<modelKey>/manifest.json`. The manifest's own digest is the last part of the key, so
 * that a key says exactly which bytes are meant.
 */
export const StoredModel = z.object({
  format: z.literal("drydock-stored-model/1"),
  files: z
    .array(
      z.object({
        /** Name in the folder, without a path. */
        name: z.string().regex(/^[^/\\\0]+$/),
        /** Where its bytes are in object storage; absent = beside the manifest, under its name. */
        key: z.string().min(1).optional(),
        sizeBytes: z.int().nonnegative(),
        sha256: Sha256,
      }),
    )
    .min(1),
});
export type StoredModel = z.infer<typeof StoredModel>;

export const storedModelManifestName = "manifest.json";
