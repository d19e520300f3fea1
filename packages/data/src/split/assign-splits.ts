import { sha256 } from "@drydock/kit";
import type { Split } from "../importers/source-row.ts";

/** What the split needs to know of a row, in file order. */
export interface SplittableRow {
  /** Digests of its pictures; for a row without any, of its content. */
  readonly keys: readonly string[];
  /** The split that the data itself gives. */
  readonly own: Split | null;
}

export interface AssignedSplits {
  /** One per row. */
  readonly splits: readonly Split[];
  /** Rows that were moved to train because a picture of theirs is also there. */
  readonly moved: readonly number[];
  /** True when the data's own splits were used. */
  readonly isOwn: boolean;
}

/**
 * Puts rows into train and validation so that no picture is in both.
 *
 * Rows that share a picture, directly or through others, form a group. When the data itself has rows for both, its own
 * splits are kept; rows without one are train, and a group that is in both goes to train as a whole. Otherwise groups are
 * ordered by a hash of the seed and their smallest key, and taken for validation until `share` of the rows is reached.
 * Then with a share above 0 and two groups or more, both splits have a row. The same rows and seed always give the same
 * splits, in whatever order the rows come.
 */
export function assignSplits(rows: readonly SplittableRow[], share: number, seed: number): AssignedSplits {
  const groups = groupByKey(rows);
  const hasBoth = (["train", "validation"] as const).every((split) => rows.some(({ own }) => own === split));
  if (hasBoth) return keepOwn(rows, groups);
  const splits = rows.map((): Split => "train");
  const target = Math.round(share * rows.length);
  const ordered = [...groups]
    .map((members) => ({ members, order: sha256(`${seed}:${smallestKey(rows, members)}`) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1));
  let taken = 0;
  for (const [index, { members }] of ordered.entries()) {
    const isFirst = share > 0 && taken === 0;
    const isLastOfTrain =
      taken + members.length >= rows.length || (index === ordered.length - 1 && ordered.length === 1);
    if (isLastOfTrain || (!isFirst && taken + members.length > target)) continue;
    if (share === 0) break;
    for (const member of members) splits[member] = "validation";
    taken += members.length;
  }
  return { splits, moved: [], isOwn: false };
}

function keepOwn(rows: readonly SplittableRow[], groups: Iterable<readonly number[]>): AssignedSplits {
  const splits = rows.map(({ own }): Split => own ?? "train");
  const moved: number[] = [];
  for (const members of groups) {
    if (!members.some((member) => splits[member] === "train")) continue;
    for (const member of members) {
      if (splits[member] !== "validation") continue;
      splits[member] = "train";
      moved.push(member);
    }
  }
  return { splits, moved: moved.toSorted((a, b) => a - b), isOwn: true };
}

function smallestKey(rows: readonly SplittableRow[], members: readonly number[]): string {
  let smallest: string | null = null;
  for (const member of members)
    for (const key of rows[member]?.keys ?? []) if (smallest === null || key < smallest) smallest = key;
  return smallest ?? "";
}

/** Rows that share a key, directly or through others (union-find). */
function groupByKey(rows: readonly SplittableRow[]): Iterable<number[]> {
  const parents = rows.map((_, index) => index);
  const rootOf = (index: number): number => {
    let root = index;
    while (parents[root] !== root) root = parents[root] ?? root;
    for (let step = index; step !== root;) {
      const next = parents[step] ?? root;
      parents[step] = root;
      step = next;
    }
    return root;
  };
  const owners = new Map<string, number>();
  for (const [index, { keys }] of rows.entries()) {
    for (const key of keys) {
      const owner = owners.get(key);
      if (owner === undefined) owners.set(key, index);
      else parents[rootOf(index)] = rootOf(owner);
    }
  }
  return Map.groupBy(rows.keys(), rootOf).values();
}
