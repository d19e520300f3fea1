import type { SampleResult } from "@drydock/spec";

/** Key of a row's picture, or null. Results are written by workers: only pictures of data sets may be shown through them. */
export function pictureKeyOf({ imageKey }: Pick<SampleResult, "imageKey">): string | null {
  return imageKey !== null && /^datasets\/[\w-]+\/images\/[\w.-]+$/.test(imageKey) ? imageKey : null;
}
