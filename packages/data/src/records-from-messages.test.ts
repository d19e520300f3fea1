import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DataRecord } from "@drydock/spec";
import { picture, writeFiles } from "../test/pictures.ts";
import { recordsFromMessages } from "./records-from-messages.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-messages-"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const question = (image: string, answer = "a bus") => ({
  messages: [
    {
      role: "user",
      content: [
        { type: "image", image },
        { type: "text", text: "What?" },
      ],
    },
    { role: "assistant", content: answer },
  ],
});

test("rows become records in order, pictures stay where they are", async () => {
  const file = join(root, "data/rows.jsonl");
  await writeFiles(root, {
    "data/pictures/a.png": await picture(1),
    "data/rows.jsonl": [
      question("pictures/a.png"),
      question(join(root, "data/pictures/a.png"), "a car"),
      question("pictures/a.png"),
    ],
  });
  const records = await Array.fromAsync(recordsFromMessages(file));
  expect(records.map((record) => DataRecord.parse(record))).toEqual(records);
  expect(records.map(({ images, split, task, source }) => [images[0]?.key, split, task, source.row])).toEqual(
    [1, 2, 3].map((row) => ["pictures/a.png", "train", "vqa", row]),
  );
  expect(records[0]?.messages).toEqual([
    { role: "user", content: "<image>What?" },
    { role: "assistant", content: "a bus" },
  ]);
  expect(records[2]?.rowId).toBe(`${records[0]?.rowId}-1`);
});

test("a wider root takes pictures from beside the file's folder", async () => {
  await writeFiles(root, { "pictures/a.png": await picture(1), "data/rows.jsonl": [question("../pictures/a.png")] });
  const file = join(root, "data/rows.jsonl");
  await expect(Array.fromAsync(recordsFromMessages(file))).rejects.toThrow("lies outside of");
  expect((await Array.fromAsync(recordsFromMessages(file, { root })))[0]?.images[0]?.key).toBe("pictures/a.png");
  expect((await Array.fromAsync(recordsFromMessages(file, { root: "/" })))[0]?.images[0]?.key).toBe(
    join(root, "pictures/a.png").slice(1),
  );
});

test("a data URI goes into the folder given, and is refused without one", async () => {
  const bytes = await picture(4);
  const file = join(root, "rows.jsonl");
  await writeFiles(root, {
    "rows.jsonl": [
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "image_url", image_url: { url: `data:image/png;base64,${bytes.toString("base64")}` } },
              { type: "text", text: "?" },
            ],
          },
          { role: "assistant", content: "noise" },
        ],
      },
    ],
  });
  await expect(Array.fromAsync(recordsFromMessages(file))).rejects.toThrow(
    "line 1: the row carries its picture as a data URI; write it to a file and name that",
  );
  const [record] = await Array.fromAsync(recordsFromMessages(file, { inlineDirectory: join(root, "inline") }));
  expect(record?.images[0]?.key).toBe(`inline/${record?.images[0]?.sha256}`);
});

test.each([
  ["a broken line", '{"messages"', "line 2: not valid JSON"],
  ["a missing picture", JSON.stringify(question("gone.png")), 'line 2: picture "gone.png" is not there (looked for '],
  [
    "a broken picture",
    JSON.stringify(question("text.png")),
    'line 2: picture "text.png" is not a picture that can be read',
  ],
  ["an empty answer", JSON.stringify(question("a.png", "")), "line 2: the answer is empty"],
])("%s ends the reading with its line", async (_case, line, message) => {
  await writeFiles(root, {
    "a.png": await picture(1),
    "text.png": "hello",
    "rows.jsonl": `${JSON.stringify(question("a.png"))}\n${line}\n`,
  });
  await expect(Array.fromAsync(recordsFromMessages(join(root, "rows.jsonl")))).rejects.toMatchObject({
    code: "bad_data",
    message: expect.stringContaining(message),
  });
});

test("rows of phrase grounding keep their boxes as text, and a row without a picture is one too", async () => {
  const boxes = '[{"bbox_2d": [1, 2, 3, 4], "label": "bus"}]';
  await writeFiles(root, {
    "a.png": await picture(1),
    "rows.jsonl": [
      question(`file://${join(root, "a.png")}`, boxes),
      {
        messages: [
          { role: "user", content: "Hello" },
          { role: "assistant", content: "Hi" },
        ],
      },
    ],
  });
  const records = await Array.fromAsync(recordsFromMessages(join(root, "rows.jsonl"), { task: "phrase-grounding" }));
  expect(records.map(({ task, images, messages }) => [task, images.length, messages[1]?.content])).toEqual([
    ["phrase-grounding", 1, boxes],
    ["phrase-grounding", 0, "Hi"],
  ]);
});
