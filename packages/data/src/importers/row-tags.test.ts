import { expect, test } from "vitest";
import { z } from "zod";
import { readMessagesRow } from "./openai-jsonl.ts";
import { tagFields, tagsOf } from "./row-tags.ts";

const messages = [
  { role: "user", content: "What is it?" },
  { role: "assistant", content: "A bus." },
];

test.each([
  [{ tags: ["night", "line-3", "night"] }, { tags: ["night", "line-3"] }],
  [{ tags: "night, rain" }, { tags: ["night", "rain"] }],
  [{ metadata: { tags: ["night", 7], author: "x" } }, { tags: ["night", "7"] }],
  [{ tags: ["a"], metadata: { tags: ["b"] } }, { tags: ["a", "b"] }],
  [{ metadata: "anything" }, {}],
  [{ tags: null, metadata: { tags: [] } }, {}],
])("tags of %j are %j", (row, tags) => {
  expect(tagsOf(z.object(tagFields).parse(row))).toEqual(tags);
});

test("a row of messages carries its tags", () => {
  expect(readMessagesRow("rows.jsonl", 1, { messages, tags: ["night"] }, {})).toMatchObject({
    kind: "row",
    tags: ["night"],
  });
});

test("tags that are none are refused with what they should be", () => {
  expect(readMessagesRow("rows.jsonl", 3, { messages, tags: { a: 1 } }, {})).toMatchObject({
    kind: "issue",
    issue: {
      message:
        'rows.jsonl, line 3: tags: tags are a list of words, or one text with commas between, e.g. ["night", "line-3"]',
    },
  });
});
