import fc from "fast-check";
import { expect, test } from "vitest";
import { assignSplits, type SplittableRow } from "./assign-splits.ts";

const rows = (...keys: readonly (readonly string[])[]): SplittableRow[] =>
  keys.map((own) => ({ keys: own, own: null }));
const anyRows = fc.array(
  fc
    .array(fc.integer({ min: 0, max: 30 }).map(String), { minLength: 1, maxLength: 2 })
    .map((keys) => ({ keys, own: null })),
  { maxLength: 60 },
);
const ownSplit = fc.constantFrom("train", "validation", null);

test("no picture is ever in both splits", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          keys: fc.array(fc.integer({ min: 0, max: 20 }).map(String), { minLength: 1, maxLength: 3 }),
          own: ownSplit,
        }),
        { maxLength: 50 },
      ),
      fc.double({ min: 0, max: 0.9, noNaN: true }),
      (all, share) => {
        const { splits } = assignSplits(all, share, 1);
        const seen = new Map<string, string>();
        for (const [index, { keys }] of all.entries())
          for (const key of keys) expect(splits[index]).toBe(remember(seen, key, splits[index] ?? ""));
      },
    ),
  );
});

function remember(seen: Map<string, string>, key: string, split: string): string {
  const known = seen.get(key) ?? split;
  seen.set(key, known);
  return known;
}

test("the order of rows does not change who is where", () => {
  fc.assert(
    fc.property(anyRows, (all) => {
      const forward = assignSplits(all, 0.3, 5).splits;
      expect(assignSplits(all.toReversed(), 0.3, 5).splits.toReversed()).toEqual(forward);
    }),
  );
});

test("with two groups or more and a share, both splits have a row", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 40 }),
      fc.double({ min: 0.01, max: 0.9, noNaN: true }),
      fc.integer({ min: 0, max: 99 }),
      (count, share, seed) => {
        const { splits } = assignSplits(
          rows(...Array.from({ length: count }, (_, index) => [String(index)])),
          share,
          seed,
        );
        expect(new Set(splits).size).toBe(2);
      },
    ),
  );
});

test("a fifth of a hundred pictures is twenty, other ones for another seed", () => {
  const all = rows(...Array.from({ length: 100 }, (_, index) => [`picture ${index}`]));
  const [first, second] = [assignSplits(all, 0.2, 1).splits, assignSplits(all, 0.2, 2).splits];
  expect(first.filter((split) => split === "validation")).toHaveLength(20);
  expect(first).not.toEqual(second);
  expect(assignSplits(all, 0, 1).splits).not.toContain("validation");
});

test("a single picture stays in train", () => {
  expect(assignSplits(rows(["a"], ["a"]), 0.5, 1).splits).toEqual(["train", "train"]);
});

test("the data's own splits are kept, leaks move to train, unmarked rows are train", () => {
  const all: SplittableRow[] = [
    { keys: ["a"], own: "train" },
    { keys: ["a"], own: "validation" },
    { keys: ["b"], own: "validation" },
    { keys: ["c"], own: null },
  ];
  expect(assignSplits(all, 0.5, 1)).toEqual({
    splits: ["train", "train", "validation", "train"],
    moved: [1],
    isOwn: true,
  });
});

test("a data set that is all validation, or all train, is split afresh", () => {
  for (const own of ["train", "validation"] as const) {
    const { splits, isOwn } = assignSplits(
      [
        { keys: ["a"], own },
        { keys: ["b"], own },
      ],
      0.5,
      1,
    );
    expect([splits.toSorted(), isOwn]).toEqual([["train", "validation"], false]);
  }
});
