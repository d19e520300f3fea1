import { expect, test } from "vitest";
import { readMessagesRow } from "./openai-jsonl.ts";

test.each([
  ["What is it?", "<image>What is it?"],
  // One line break behind a mark belongs to the mark, so a text's own needs a second one to stay.
  ["\nWhat is it?", "<image>\n\nWhat is it?"],
])("the text %j after a picture part keeps its line breaks", (text, content) => {
  const parts = [
    { type: "image", image: "a.png" },
    { type: "text", text },
  ];
  expect(readMessagesRow("data.jsonl", 1, { messages: [{ role: "user", content: parts }] }, {})).toMatchObject({
    kind: "row",
    messages: [{ role: "user", content }],
  });
});
