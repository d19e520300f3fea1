import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import { DatasetStatistics, ImportOptions, ValidationReport, type DataRecord } from "@drydock/spec";
import { zip } from "../../test/archives.ts";
import { picture, pngBomb, writeFiles } from "../../test/pictures.ts";
import { importVersion, type ImportVersionInput } from "./import-version.ts";
import type { ImportedVersion } from "./manifest.ts";
import { readRecords } from "./read-records.ts";

let root: string;
let storage: FolderStorage;
let data: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-import-test-"));
  storage = new FolderStorage(join(root, "store"));
  data = join(root, "data");
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

async function run(
  files: Readonly<Record<string, unknown>>,
  options: Readonly<Record<string, unknown>> = {},
  rest: Partial<ImportVersionInput> = {},
): Promise<ImportedVersion> {
  await writeFiles(data, files);
  return await importVersion({
    path: data,
    options: ImportOptions.parse(options),
    storage,
    datasetId: "ds_1",
    version: 1,
    ...rest,
  });
}

async function records(version = 1): Promise<DataRecord[]> {
  return await Array.fromAsync(readRecords(storage, `datasets/ds_1/versions/${version}/records.jsonl`));
}

function found(result: ImportedVersion, code: string) {
  return result.report.issues.filter((issue) => issue.code === code);
}

const question = (image: string, answer = "a bus", text = "What is it?") => ({
  messages: [
    {
      role: "user",
      content: [
        { type: "image", image },
        { type: "text", text },
      ],
    },
    { role: "assistant", content: answer },
  ],
});

test("COCO becomes one grounding row per picture with boxes as fractions", async () => {
  const result = await run(
    {
      "images/a.png": await picture(1, 40, 20),
      "images/b.png": await picture(2, 40, 20),
      "annotations/instances_train.json": {
        images: [
          { id: 1, file_name: "a.png", width: 40, height: 20 },
          { id: 2, file_name: "b.png", width: 40, height: 20 },
        ],
        categories: [
          { id: 7, name: "bus" },
          { id: 8, name: "dog" },
        ],
        annotations: [
          { id: 1, image_id: 1, category_id: 7, bbox: [0, 0, 20, 10] },
          { id: 2, image_id: 1, category_id: 8, bbox: [20, 10, 20, 10] },
          { id: 3, image_id: 1, category_id: 7, bbox: [10, 5, 10, 5] },
          { id: 4, image_id: 1, category_id: 7, bbox: [10, 5, 10, 5], iscrowd: 1 },
          { id: 5, image_id: 9, category_id: 7, bbox: [1, 1, 2, 2] },
        ],
      },
    },
    { validationShare: 0 },
  );
  const [first, second] = await records();
  expect(first?.groundings).toEqual([
    {
      phrase: "bus",
      boxes: [
        [0, 0, 0.5, 0.5],
        [0.25, 0.25, 0.5, 0.5],
      ],
    },
    { phrase: "dog", boxes: [[0.5, 0.5, 1, 1]] },
  ]);
  expect(first?.messages).toEqual([{ role: "user", content: "<image>\nLocate bus, dog." }]);
  expect(second?.groundings?.every(({ boxes }) => boxes.length === 0)).toBe(true);
  expect(Object.keys(result.report.byCode)).toEqual([
    "crowd_box",
    "data_below_minimum",
    "no_validation_rows",
    "orphan_annotation",
    "picture_without_boxes",
  ]);
  expect(result.statistics).toMatchObject({ rows: 2, images: 2, boxes: 3, tasks: { "phrase-grounding": 2 } });
});

test("YOLO takes classes from data.yaml and splits from folders", async () => {
  const result = await run({
    "data.yaml": "names: [weld, crack]\nnc: 2\n",
    "train/images/a.png": await picture(1),
    "train/labels/a.txt": "1 0.5 0.5 0.2 0.4\n",
    "valid/images/b.png": await picture(2),
    "valid/labels/b.txt": "0 0.5 0.5 1 1\n0 2 0.5\n",
    "valid/images/c.png": await picture(3),
    "valid/labels/c.txt": "0 0.5 0.5 1 1\n",
  });
  const all = await records();
  expect(all.map(({ split, groundings }) => [split, groundings?.[0]?.phrase])).toEqual([
    ["train", "crack"],
    ["validation", "weld"],
  ]);
  for (const [index, side] of [0.4, 0.3, 0.6, 0.7].entries())
    expect(all[0]?.groundings?.[0]?.boxes[0]?.[index]).toBeCloseTo(side, 12);
  expect(found(result, "broken_line")[0]?.message).toBe(
    'valid/labels/b.txt, line 2: "0 2 0.5" is not "class cx cy width height"',
  );
});

test("Vi JSONL gives phrases with corner boxes and one row per question", async () => {
  await run({
    "a.png": await picture(1),
    "b.png": await picture(2),
    "rows.jsonl": [
      {
        id: "1",
        asset: { type: "Image", filename: "a.png", width: 32, height: 24 },
        contents: {
          type: "PhraseGrounding",
          caption: "a red bus",
          groundedPhrases: [
            {
              phrase: "a red bus",
              startTokenIndex: 0,
              endTokenIndex: 3,
              bounds: [
                [
                  [0.1, 0.2],
                  [0.6, 0.2],
                  [0.6, 0.9],
                  [0.1, 0.9],
                ],
              ],
            },
          ],
        },
      },
      {
        id: 2,
        asset: { type: "Image", filename: "b.png" },
        contents: {
          type: "Vqa",
          interactions: [
            { order: 2, question: "Colour?", answer: "red" },
            { order: 1, question: "How many?", answer: "2" },
          ],
        },
      },
    ],
  });
  const all = await records();
  expect(all.map(({ task }) => task)).toEqual(["phrase-grounding", "vqa", "vqa"]);
  expect(all[0]?.groundings).toEqual([{ phrase: "a red bus", boxes: [[0.1, 0.2, 0.6, 0.9]] }]);
  expect(all[1]?.messages).toEqual([
    { role: "user", content: "<image>\nHow many?" },
    { role: "assistant", content: "2" },
  ]);
  expect(all[1]?.split).toBe(all[2]?.split);
});

test("LLaVA conversations keep their turns; several pictures and text alone are rows too", async () => {
  await run({
    "a.png": await picture(1),
    "b.png": await picture(2),
    "data.json": [
      {
        id: "1",
        image: "a.png",
        conversations: [
          { from: "human", value: "<image>\nWhat is it?" },
          { from: "gpt", value: "A bus." },
        ],
      },
      {
        id: "2",
        images: ["a.png", "b.png"],
        system: "Be short.",
        conversations: [
          { from: "human", value: "<image><image>Same?" },
          { from: "gpt", value: "No." },
          { from: "human", value: "Sure?" },
          { from: "gpt", value: "Yes." },
        ],
      },
      {
        id: "3",
        conversations: [
          { from: "human", value: "Hello" },
          { from: "gpt", value: "Hi" },
        ],
      },
    ],
  });
  const all = await records();
  expect(all.map(({ task, images, messages }) => [task, images.length, messages.length])).toEqual([
    ["vqa", 1, 2],
    ["chat", 2, 5],
    ["chat", 0, 2],
  ]);
  expect(all[1]?.messages[0]).toEqual({ role: "system", content: "Be short." });
});

test("OpenAI messages take pictures from paths, data URIs and an images list", async () => {
  const bytes = await picture(3);
  await run({
    "a.png": await picture(1),
    "rows.jsonl": [
      question("a.png"),
      {
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text: "What?" },
              {
                type: "image_url",
                image_url: { url: `data:image/png;base64,${bytes.toString("base64")}`, detail: "low" },
              },
            ],
          },
          { role: "assistant", content: "noise" },
        ],
      },
      {
        messages: [
          { role: "user", content: "<image>Colour?" },
          { role: "assistant", content: "red" },
        ],
        images: ["a.png"],
      },
    ],
  });
  const all = await records();
  expect(all.map(({ messages }) => messages[0]?.content)).toEqual([
    "<image>What is it?",
    "What?<image>",
    "<image>Colour?",
  ]);
  expect(Buffer.from(await storage.get(all[1]?.images[0]?.key ?? ""))).toEqual(bytes);
  expect(all[0]?.images[0]?.key).toBe(all[2]?.images[0]?.key);
});

test.each([
  ["corners", "filename,xmin,ymin,xmax,ymax,class\na.png,0,0,16,12,bus\na.png,16,12,32,24,dog\n"],
  ["x, y, width, height", "filename,x,y,width,height,class\na.png,0,0,16,12,bus\na.png,16,12,16,12,dog\n"],
  ["corners as fractions", "filename,xmin,ymin,xmax,ymax,class\na.png,0,0,0.5,0.5,bus\na.png,0.5,0.5,1,1,dog\n"],
])("CSV with %s gives one row per picture", async (_case, text) => {
  await run({ "a.png": await picture(1), "boxes.csv": text });
  expect((await records()).map(({ groundings }) => groundings)).toEqual([
    [
      { phrase: "bus", boxes: [[0, 0, 0.5, 0.5]] },
      { phrase: "dog", boxes: [[0.5, 0.5, 1, 1]] },
    ],
  ]);
});

test("CSV with questions and a split column gives vqa rows", async () => {
  await run({
    "images/a.png": await picture(1),
    "images/b.png": await picture(2),
    "qa.csv": 'image,question,answer,split\na.png,"How many, exactly?",2,train\nb.png,Colour?,red,val\n',
  });
  expect((await records()).map(({ split, messages }) => [split, messages[0]?.content, messages[1]?.content])).toEqual([
    ["train", "<image>\nHow many, exactly?", "2"],
    ["validation", "<image>\nColour?", "red"],
  ]);
});

const good = question("good.png");

test.each<[string, string, unknown, string]>([
  [
    "a truncated picture",
    "image_truncated",
    question("cut.jpg"),
    "rows.jsonl, row 2: picture cut.jpg is cut off or damaged",
  ],
  [
    "an empty picture file",
    "image_empty",
    question("empty.png"),
    "picture empty.png is an empty file: replace it or remove the row",
  ],
  [
    "a picture over the limit",
    "image_too_large",
    question("large.png"),
    "picture large.png has 300×300 pixels (0 megapixels); at most 0.02 megapixels are accepted. Scale it down",
  ],
  [
    "an image bomb",
    "image_bomb",
    question("bomb.png"),
    "picture bomb.png declares 60000×60000 pixels (3600 megapixels) in ",
  ],
  [
    "a file that is no picture",
    "image_unreadable",
    question("text.png"),
    "picture text.png is not a picture that can be read: use JPEG, PNG, WebP, GIF, TIFF or AVIF",
  ],
  [
    "a missing picture",
    "image_missing",
    question("gone.png"),
    'picture "gone.png" is not in the data set: upload it or correct the name',
  ],
  [
    "a name in another case",
    "image_name_case",
    question("Good.PNG"),
    'picture "Good.PNG" is not in the data set, but "good.png" is: names must match in upper and lower case',
  ],
  [
    "a path out of the folder",
    "image_outside",
    question("../../etc/passwd"),
    'picture "../../etc/passwd" lies outside the data set',
  ],
  [
    "a web address",
    "image_url_refused",
    question("http://169.254.169.254/latest/meta-data"),
    "is a web address, and importing fetches nothing. Download the picture and name its file",
  ],
  [
    "an empty answer",
    "empty_answer",
    question("good.png", "  "),
    "rows.jsonl, row 2: the answer is empty: write what the model should say, or remove the row",
  ],
  [
    "a question without an answer",
    "empty_answer",
    { messages: [{ role: "user", content: "What?" }] },
    "the last turn is the user's: add the assistant's answer",
  ],
  [
    "more marks than pictures",
    "image_count_mismatch",
    {
      messages: [
        { role: "user", content: "<image><image>?" },
        { role: "assistant", content: "a" },
      ],
      images: ["good.png"],
    },
    "the row names 1 picture but its turns hold 2 <image> marks: make the numbers equal",
  ],
  [
    "a mark in an answer",
    "image_mark_outside_question",
    {
      messages: [
        { role: "user", content: "?" },
        { role: "assistant", content: "<image>" },
      ],
      images: ["good.png"],
    },
    "pictures may stand in user turns only",
  ],
  [
    "turns out of order",
    "roles_out_of_order",
    {
      messages: [
        { role: "assistant", content: "a" },
        { role: "user", content: "?" },
      ],
    },
    "user and assistant must alternate",
  ],
  ["a broken JSON line", "broken_json", '{"messages": [', "rows.jsonl, line 2 is not valid JSON"],
  ["a row of another shape", "invalid_row", { messages: "hello" }, "rows.jsonl, line 2: messages:"],
])("%s is reported with file and row, and the good row stays", async (_case, code, row, message) => {
  const jpeg = await picture(5, 64, 64, "jpeg");
  const line = typeof row === "string" ? row : JSON.stringify(row);
  const result = await run(
    {
      "good.png": await picture(1),
      "cut.jpg": jpeg.subarray(0, jpeg.length / 2),
      "empty.png": "",
      "large.png": await picture(6, 300, 300),
      "bomb.png": pngBomb(60_000, 60_000),
      "text.png": "hello",
      "rows.jsonl": `${JSON.stringify(good)}\n${line}\n`,
    },
    { format: "openai-jsonl" },
    { imageLimits: { maxPixels: 20_000 } },
  );
  expect(found(result, code)).toEqual([
    expect.objectContaining({
      severity: "error",
      file: "rows.jsonl",
      row: 2,
      message: expect.stringContaining(message),
    }),
  ]);
  expect(result.report).toMatchObject({ rowsRead: 2, rowsAccepted: 1, errors: 1 });
  expect(result.statistics.rows).toBe(1);
});

test.each<[string, string, number[], string]>([
  [
    "outside the picture",
    "box_outside_picture",
    [20, 0, 20, 10],
    'box of "bus": bbox [20, 0, 20, 10] (x, y, width, height) reaches outside the picture of 32×24 pixels',
  ],
  [
    "without an area",
    "empty_box",
    [4, 4, 0, 5],
    "has no area (right must be larger than left, bottom larger than top): correct or remove it",
  ],
  ["with a negative corner", "box_outside_picture", [-5, 0, 20, 10], "clip it to the picture or correct it"],
])("a box %s is reported with its numbers", async (_case, code, bbox, message) => {
  const coco = (own: number[]) => ({
    images: [
      { id: 1, file_name: "a.png" },
      { id: 2, file_name: "b.png" },
    ],
    categories: [{ id: 1, name: "bus" }],
    annotations: [
      { image_id: 1, category_id: 1, bbox: own },
      { image_id: 2, category_id: 1, bbox: [0, 0, 32.4, 24] },
    ],
  });
  const result = await run({ "a.png": await picture(1), "b.png": await picture(2), "coco.json": coco(bbox) });
  expect(found(result, code)[0]).toMatchObject({
    severity: "error",
    file: "coco.json",
    row: 1,
    message: expect.stringContaining(message),
  });
  expect((await records()).map(({ groundings }) => groundings?.[0]?.boxes)).toEqual([[[0, 0, 1, 1]]]);
});

test("boxes drawn on another size or on the unturned picture are refused", async () => {
  const { default: sharp } = await import("sharp");
  const turned = await sharp(await picture(2, 40, 20))
    .jpeg()
    .withMetadata({ orientation: 6 })
    .toBuffer();
  const result = await run({
    "a.png": await picture(1),
    "b.jpg": turned,
    "c.png": await picture(3),
    "coco.json": {
      images: [
        { id: 1, file_name: "a.png", width: 64, height: 48 },
        { id: 2, file_name: "b.jpg", width: 40, height: 20 },
        { id: 3, file_name: "c.png", width: 32, height: 24 },
      ],
      categories: [{ id: 1, name: "bus" }],
      annotations: [1, 2, 3].map((image) => ({ image_id: image, category_id: 1, bbox: [0, 0, 4, 4] })),
    },
  });
  expect(found(result, "image_size_mismatch")[0]?.message).toContain(
    "the annotations say 64×48 pixels, the picture has 32×24",
  );
  expect(found(result, "exif_rotation_mismatch")[0]?.message).toContain("20×40 once turned by its EXIF orientation 6");
  expect(result.report.rowsAccepted).toBe(1);
});

test("an animated picture is used by its first frame, with a warning", async () => {
  const { default: sharp } = await import("sharp");
  const frames = await sharp([await picture(1), await picture(2)], { join: { animated: true } })
    .gif()
    .toBuffer();
  const result = await run({ "a.gif": frames, "rows.jsonl": [question("a.gif")] });
  expect(found(result, "image_animated")[0]?.message).toContain(
    "the picture has 2 frames or pages; only the first is used",
  );
  expect((await records())[0]?.images[0]).toMatchObject({ width: 32, height: 24 });
});

test("a duplicate row is warned about, kept, and told apart by its id", async () => {
  const result = await run({ "good.png": await picture(1), "rows.jsonl": [good, good, good] });
  expect(found(result, "duplicate_row").map(({ row, message }) => [row, message.slice(0, 74)])).toEqual([
    [2, "rows.jsonl, row 2: the row is the same as rows.jsonl, row 1; it is kept an"],
    [3, "rows.jsonl, row 3: the row is the same as rows.jsonl, row 1; it is kept an"],
  ]);
  const ids = (await records()).map(({ rowId }) => rowId);
  expect(ids).toEqual([ids[0], `${ids[0]}-1`, `${ids[0]}-2`]);
});

test("the same picture under two names in two splits moves to train", async () => {
  const bytes = await picture(1);
  const result = await run({
    "train/a.png": bytes,
    "val/b.png": bytes,
    "val/c.png": await picture(2),
    "train.jsonl": [question("train/a.png")],
    "val.jsonl": [question("val/b.png"), question("val/c.png")],
  });
  expect((await records()).map(({ split, source }) => [source.file, split])).toEqual([
    ["train.jsonl", "train"],
    ["val.jsonl", "train"],
    ["val.jsonl", "validation"],
  ]);
  expect(found(result, "picture_in_two_splits")[0]?.message).toContain(
    "val/b.png is also in the training split; the row is moved from validation to train",
  );
});

test("rows marked as test go to validation with one note, and a picture's own name says nothing", async () => {
  const result = await run({
    "classes.txt": "weld\n",
    "train/test1.png": await picture(1),
    "train/test1.txt": "0 0.5 0.5 1 1\n",
    "test/a.png": await picture(2),
    "test/a.txt": "0 0.5 0.5 1 1\n",
    "test/b.png": await picture(3),
  });
  expect((await records()).map(({ split }) => split)).toEqual(["validation", "validation", "train"]);
  expect(found(result, "test_as_validation").map(({ message }) => message)).toEqual([
    "rows marked as test (the first in test/a.txt) go to the validation split, since a version has no third one. Leave them out to keep them unseen",
  ]);
});

test("reject-all refuses the version at the first bad row and writes no manifest", async () => {
  await expect(
    run({ "good.png": await picture(1), "rows.jsonl": [good, question("gone.png")] }, { onBadRow: "reject-all" }),
  ).rejects.toMatchObject({
    code: "bad_row",
    message: expect.stringContaining('rows.jsonl, row 2: picture "gone.png" is not in the data set'),
  });
  expect(await storage.head("datasets/ds_1/versions/1/manifest.json")).toBeNull();
});

test("a data set without a usable row is refused with the first problem, and its report is kept", async () => {
  await expect(run({ "rows.jsonl": [question("gone.png")] })).rejects.toMatchObject({
    code: "no_usable_rows",
    message: expect.stringContaining(
      'none of 1 rows can be used (format openai-jsonl: rows of rows.jsonl have messages). The first problem: rows.jsonl, row 1: picture "gone.png"',
    ),
  });
  expect(
    ValidationReport.parse(JSON.parse(await readFile(join(root, "store/datasets/ds_1/versions/1/report.json"), "utf8")))
      .errors,
  ).toBe(1);
});

test("a task that the rows do not fit is reported", async () => {
  await expect(
    run({ "good.png": await picture(1), "rows.jsonl": [good] }, { task: "phrase-grounding" }),
  ).rejects.toThrow("task is phrase-grounding but the row has no boxes");
});

test.each<[string, Readonly<Record<string, unknown>>, string, string]>([
  ["nothing", {}, "format_unknown", "the data set holds no files"],
  [
    "pictures alone",
    { "a.png": "x" },
    "format_unknown",
    "no known format was found among 1 pictures and no annotation file",
  ],
  [
    "two formats",
    { "a.jsonl": [good], "b.csv": "image,question,answer\n" },
    "format_ambiguous",
    "more than one format was found: openai-jsonl (rows of a.jsonl have messages); csv (b.csv has the columns image,question,answer)",
  ],
])("detection of %s explains itself", async (_case, files, code, message) => {
  await writeFiles(data, { ".keep": "", ...files });
  await expect(run({})).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
});

test("importing twice, or elsewhere, gives the same bytes and the same digest", async () => {
  const files: Record<string, unknown> = {};
  for (let index = 0; index < 12; index++) files[`p${index}.png`] = await picture(index);
  files["rows.jsonl"] = Array.from({ length: 24 }, (_, index) => question(`p${index % 12}.png`, `answer ${index}`));
  const first = await run(files, {}, { concurrency: 1 });
  const elsewhere = await run({}, {}, { datasetId: "ds_2", version: 5, concurrency: 7 });
  expect(elsewhere.digest).toBe(first.digest);
  expect(elsewhere.statistics).toEqual(first.statistics);
  const again = await run({}, {}, { path: join(root, "gone") });
  expect(again).toEqual(first);
  expect(DatasetStatistics.parse(first.statistics)).toMatchObject({
    rows: 24,
    trainRows: 20,
    validationRows: 4,
    pairs: 24,
    images: 12,
  });
  await expect(run({}, { seed: 7 })).rejects.toMatchObject({ code: "version_exists" });
});

test("an import that was aborted leaves no version, and a retry completes it", async () => {
  const controller = new AbortController();
  const files: Record<string, unknown> = {
    "a.png": await picture(1),
    "rows.jsonl": Array.from({ length: 50 }, (_, index) => question("a.png", `answer ${index}`)),
  };
  await expect(run(files, {}, { signal: controller.signal, onProgress: () => controller.abort() })).rejects.toThrow(
    "aborted",
  );
  expect(await storage.head("datasets/ds_1/versions/1/manifest.json")).toBeNull();
  expect((await run({})).statistics.rows).toBe(50);
});

test("records that were damaged name the line", async () => {
  await storage.put("records.jsonl", '{"rowId": "x"}\n');
  await expect(Array.fromAsync(readRecords(storage, "records.jsonl"))).rejects.toThrow("records.jsonl, line 1: split:");
});

test("an archive is imported as its folder is, and leaves nothing behind", async () => {
  const files = { "a.png": await picture(1), "rows.jsonl": `${JSON.stringify(question("a.png"))}\n` };
  const folder = await run(files);
  await writeFiles(root, {
    "data.zip": zip(Object.entries(files).map(([name, content]) => ({ name: `weld/${name}`, content }))),
    "work/.keep": "",
  });
  const archive = await run({}, {}, { path: join(root, "data.zip"), version: 2, workDirectory: join(root, "work") });
  expect(archive.statistics).toEqual(folder.statistics);
  expect(archive.digest).toBe(folder.digest);
  expect(await readdir(join(root, "work"))).toEqual([".keep"]);
});

test("a hostile archive stops the import before anything is stored", async () => {
  await writeFiles(root, { "data.zip": zip([{ name: "../rows.jsonl", content: "{}" }]) });
  await expect(run({}, {}, { path: join(root, "data.zip") })).rejects.toMatchObject({ code: "unsafe_archive_entry" });
  expect(await Array.fromAsync(storage.list(""))).toEqual([]);
});

test("a path that is not there is said to be so", async () => {
  await expect(run({}, {}, { path: join(root, "gone.zip") })).rejects.toMatchObject({ code: "path_not_found" });
});
