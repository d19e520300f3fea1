import { describe, expect, test } from "vitest";
import { aliasRefusal, parseModelReference } from "./model-alias.ts";
import { rollbackTarget, stageMove, type ProductionEvent } from "./model-stages.ts";
import { ModelReference } from "./run-spec.ts";

describe("stages", () => {
  test("a version goes up, down and to the archive; only a promotion reaches production", () => {
    expect(stageMove("weld@3", "candidate", "staging")).toEqual({ kind: "move" });
    expect(stageMove("weld@3", "staging", "candidate")).toEqual({ kind: "move" });
    expect(stageMove("weld@3", "archived", "staging")).toEqual({ kind: "move" });
    expect(stageMove("weld@3", "candidate", "production")).toEqual({ kind: "promote" });
    expect(stageMove("weld@3", "staging", "production")).toEqual({ kind: "promote" });
    expect(stageMove("weld@3", "production", "archived")).toEqual({ kind: "retire" });
    expect(stageMove("weld@3", "production", "production")).toEqual({ kind: "none" });
  });

  test("refused moves say what to do", () => {
    expect(stageMove("weld@3", "production", "staging")).toEqual({
      kind: "refused",
      message: "weld@3 is in production and cannot go to staging: promote another version, roll back, or archive it",
    });
    expect(stageMove("weld@3", "archived", "production")).toEqual({
      kind: "refused",
      message:
        "weld@3 is archived and cannot go to production at once: move it to staging first, or roll back if it was the version in production before",
    });
  });
});

describe("what a rollback goes back to", () => {
  const promoted = (from: number | null, to: number): ProductionEvent => ({ kind: "promoted", from, to });
  const rolledBack = (from: number | null, to: number): ProductionEvent => ({ kind: "rolled-back", from, to });
  const retired = (from: number): ProductionEvent => ({ kind: "retired", from, to: null });

  test.each<[string, ProductionEvent[], number | null]>([
    ["nothing without a history", [], null],
    ["nothing after the first promotion", [promoted(null, 1)], null],
    ["the version before", [promoted(null, 1), promoted(1, 2)], 1],
    ["a promotion of what is there already does not count", [promoted(null, 1), promoted(1, 2), promoted(2, 2)], 1],
    ["after a rollback the one before that", [promoted(null, 1), promoted(1, 2), promoted(2, 3), rolledBack(3, 2)], 1],
    ["not the one that was rolled back from", [promoted(null, 1), promoted(1, 2), rolledBack(2, 1), promoted(1, 3)], 1],
    ["the one that was retired", [promoted(null, 1), retired(1)], 1],
    ["through a time without any", [promoted(null, 1), retired(1), promoted(null, 2)], 1],
    ["nothing once the retired one is back", [promoted(null, 1), retired(1), rolledBack(null, 1)], null],
    ["there and back", [promoted(null, 1), promoted(1, 2), promoted(2, 1)], 2],
  ])("%s", (_title, events, target) => {
    expect(rollbackTarget(events)).toBe(target);
  });
});

describe("aliases", () => {
  test("some words are taken, with the reason", () => {
    expect(aliasRefusal("weld", "champion")).toBeNull();
    expect(aliasRefusal("weld", "production")).toContain("follows the stage: promote a version");
    expect(aliasRefusal("weld", "latest")).toContain("always means the newest version of weld");
    expect(aliasRefusal("weld", "staging")).toContain("is a stage");
    expect(aliasRefusal("weld", "v3")).toContain("would be read as version 3");
  });

  test("a reference is a name with a version or an alias", () => {
    expect(parseModelReference("weld")).toEqual({ name: "weld", version: null });
    expect(parseModelReference("weld@3")).toEqual({ name: "weld", version: 3 });
    expect(parseModelReference("weld@production")).toEqual({ name: "weld", version: "production" });
    for (const wrong of ["weld@", "weld@0", "weld@007", "weld@a@b", "Weld@1", "@1"])
      expect(parseModelReference(wrong)).toBeNull();
    expect(ModelReference.safeParse("weld@production").success).toBe(true);
    expect(ModelReference.safeParse("weld@0").success).toBe(false);
    expect(ModelReference.safeParse("weld@Production").success).toBe(false);
  });
});
