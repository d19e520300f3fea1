import { InvalidError } from "@drydock/kit";
import { phraseKey } from "../metrics/grounding-scores.ts";
import type { ScoredSample } from "../metrics/scored-sample.ts";

/** A row with what slices are made by. */
export interface SlicedSample extends ScoredSample {
  readonly tags?: readonly string[] | undefined;
  /** Pixels of its first picture. */
  readonly width?: number | null | undefined;
  readonly height?: number | null | undefined;
}

/** Pictures of fewer pixels than 256² are small, of fewer than 768² medium. */
export const sizeBounds = { small: 256 ** 2, medium: 768 ** 2 } as const;

/** Slices of one kind at most: the most frequent ones. */
const mostOfAKind = 30;

type Kind = "tag" | "class" | "size";
const kinds: readonly Kind[] = ["tag", "class", "size"];

export interface SliceNames {
  /** Most frequent first within a kind; tags, then classes, then sizes. */
  readonly names: readonly string[];
  readonly leftOut: number;
}

/** Names of the slices that these rows have. */
export function sliceNamesOf(samples: readonly SlicedSample[]): SliceNames {
  const counts = new Map<string, number>();
  for (const sample of samples)
    for (const name of slicesThatExpect(sample)) counts.set(name, (counts.get(name) ?? 0) + 1);
  const names: string[] = [];
  for (const kind of kinds) {
    const own = [...counts].filter(([name]) => name.startsWith(`${kind}:`));
    own.sort(([a, first], [b, second]) => second - first || (a < b ? -1 : 1));
    names.push(...own.slice(0, mostOfAKind).map(([name]) => name));
  }
  return { names, leftOut: counts.size - names.length };
}

/** Slices that a row makes there be; a phrase that was only answered makes none. */
function slicesThatExpect(sample: SlicedSample): Set<string> {
  const size = sizeOf(sample);
  return new Set([
    ...(sample.tags ?? []).map((tag) => `tag:${tag}`),
    ...sample.expectedGroundings.map(({ phrase }) => `class:${phraseKey(phrase)}`),
    ...(size === null ? [] : [`size:${size}`]),
  ]);
}

function sizeOf({ width, height }: SlicedSample): "small" | "medium" | "large" | null {
  if (typeof width !== "number" || typeof height !== "number") return null;
  const pixels = width * height;
  return pixels < sizeBounds.small ? "small" : pixels < sizeBounds.medium ? "medium" : "large";
}

/** Whether a row belongs to a slice; to a class, too, when its phrase was answered without being there. */
export function isInSlice(sample: SlicedSample, name: string): boolean {
  if (slicesThatExpect(sample).has(name)) return true;
  return sample.answeredGroundings.some(({ phrase }) => `class:${phraseKey(phrase)}` === name);
}

/** A row as it counts in a slice: in a class only the boxes of its phrase. */
export function asCountedIn<Sample extends SlicedSample>(sample: Sample, name: string): Sample {
  if (!name.startsWith("class:")) return sample;
  const isOwn = ({ phrase }: { phrase: string }): boolean => `class:${phraseKey(phrase)}` === name;
  return {
    ...sample,
    expectedGroundings: sample.expectedGroundings.filter(isOwn),
    answeredGroundings: sample.answeredGroundings.filter(isOwn),
  };
}

/**
 * The full name of a slice that is written in full (`tag:night`) or without its kind (`night`).
 *
 * @throws InvalidError `unknown_slice` naming those that there are; `ambiguous_slice` when several kinds have the name
 */
export function resolveSlice(known: readonly string[], text: string): string {
  if (known.includes(text)) return text;
  const found = known.filter((name) => name.slice(name.indexOf(":") + 1) === text);
  const [only, second] = found;
  if (only !== undefined && second === undefined) return only;
  const [code, message] =
    only === undefined
      ? [
          "unknown_slice",
          known.length === 0
            ? `there is no slice "${text}": the rows have neither tags nor phrases nor pictures to make slices by`
            : `there is no slice "${text}"; the rows have ${known.slice(0, 20).join(", ")}${known.length > 20 ? ` and ${known.length - 20} more` : ""}`,
        ]
      : ["ambiguous_slice", `"${text}" may be ${found.join(" or ")}: write it in full`];
  throw new InvalidError(code, message, { details: [{ path: "slice", code, message }] });
}
