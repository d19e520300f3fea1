import { expect, test } from "vitest";
import { warnOfDifferingPrompt } from "./compare-prompts.ts";
import { composePrompt, effectiveSystemPrompt, groundingPromptParts, vqaPromptParts } from "./default-prompts.ts";

test("a default prompt holds its four elements in order", () => {
  for (const parts of [
    vqaPromptParts,
    groundingPromptParts("json-relative-1000"),
    groundingPromptParts("internvl-ref-box"),
  ]) {
    const positions = [parts.role, parts.attention, parts.outputFormat, parts.hallucinationGuard].map((part) =>
      composePrompt(parts).indexOf(part),
    );
    expect(positions).toEqual(positions.toSorted((a, b) => a - b));
    expect(positions[0]).toBe(0);
    expect(positions).not.toContain(-1);
  }
});

test("the user's own prompt is used as it is, an empty one means none, chat has none", () => {
  expect(effectiveSystemPrompt({ task: "vqa", systemPrompt: "You inspect welds." })).toBe("You inspect welds.");
  expect(effectiveSystemPrompt({ task: "vqa", systemPrompt: "" })).toBe("");
  expect(effectiveSystemPrompt({ task: "chat" })).toBe("");
  expect(effectiveSystemPrompt({ task: "phrase-grounding" }, "internvl-ref-box")).toContain("<ref>");
});

test("a differing prompt is warned about, spaces aside", () => {
  expect(warnOfDifferingPrompt("You inspect  welds.\n", "You inspect welds.")).toBeNull();
  expect(warnOfDifferingPrompt(null, "anything")).toBeNull();
  expect(warnOfDifferingPrompt("You inspect welds.", "You inspect ships.")).toBe(
    'The model was trained with the system prompt "You inspect welds." and is used with "You inspect ships."; answers may be worse. Use the model\'s own, or train with the new one.',
  );
  expect(warnOfDifferingPrompt("You inspect welds.", "")).toContain("is used without one");
  expect(warnOfDifferingPrompt("", "You inspect ships.")).toContain("trained without a system prompt");
});
