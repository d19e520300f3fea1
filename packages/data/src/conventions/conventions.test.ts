import fc from "fast-check";
import { expect, test } from "vitest";
import type { BoxConvention, Grounding } from "@drydock/spec";
import { toModelBox, writeGroundings, type BoxSpace } from "./box-text.ts";
import { parseGroundings } from "./parse-groundings.ts";

const groundings: Grounding[] = [
  { phrase: "a red bus", boxes: [[0.1, 0.2, 0.6, 0.9]] },
  {
    phrase: 'sign "stop"',
    boxes: [
      [0, 0, 0.25, 0.5],
      [0.5, 0.5, 1, 1],
    ],
  },
];
const relative: BoxSpace = { convention: "json-relative-1000" };
const pixels: BoxSpace = { convention: "json-resized-pixels", resized: { width: 644, height: 476 } };
const tags: BoxSpace = { convention: "internvl-ref-box" };
const places: BoxSpace = { convention: "paligemma-loc" };

test("Qwen3-VL writes JSON with thousandths of the picture", () => {
  expect(writeGroundings(groundings, relative)).toBe(
    '[{"bbox_2d": [100, 200, 600, 900], "label": "a red bus"}, {"bbox_2d": [0, 0, 250, 500], "label": "sign \\"stop\\""}, {"bbox_2d": [500, 500, 1000, 1000], "label": "sign \\"stop\\""}]',
  );
});

test("Qwen2.5-VL writes pixels of the resized picture", () => {
  expect(toModelBox([0.1, 0.2, 0.6, 0.9], pixels)).toEqual([64, 95, 386, 428]);
  expect(() => toModelBox([0, 0, 1, 1], { convention: "json-resized-pixels" })).toThrow(
    "need the size of the resized picture",
  );
});

test("InternVL writes a reference and its boxes per phrase", () => {
  expect(writeGroundings(groundings, tags)).toBe(
    '<ref>a red bus</ref><box>[[100, 200, 600, 900]]</box>\n<ref>sign "stop"</ref><box>[[0, 0, 250, 500], [500, 500, 1000, 1000]]</box>',
  );
});

test("PaliGemma writes a token for each side, top and bottom first", () => {
  expect(writeGroundings(groundings, places)).toBe(
    '<loc0205><loc0102><loc0921><loc0614> a red bus ; <loc0000><loc0000><loc0512><loc0256> sign "stop" ; <loc0512><loc0512><loc1023><loc1023> sign "stop"',
  );
});

test.each([
  ["with an outline", "<loc0000><loc0000><loc1023><loc1023><seg001><seg127> bus", ["bus"]],
  ["cut off in the second", "<loc0000><loc0000><loc1023><loc1023> bus ; <loc0001><loc00", ["bus"]],
  ["with a semicolon in a phrase", "<loc0000><loc0000><loc1023><loc1023> bus; red", ["bus; red"]],
])("an answer in places %s is read", (_case, answer, phrases) => {
  expect(parseGroundings(answer, places).groundings.map(({ phrase }) => phrase)).toEqual(phrases);
});

test("JSON is not read as places: its numbers have another scale", () => {
  const json = '[{"bbox_2d": [100, 200, 600, 900], "label": "bus"}]';
  expect(parseGroundings(json, places)).toEqual({ groundings: [], isParsable: false });
});

test.each<[BoxConvention, string]>([
  ["paligemma-loc", "None"],
  ["json-relative-1000", "[]"],
  ["internvl-ref-box", "None"],
  ["undocumented", "[]"],
])("nothing found in %s is written %j and read back as such", (convention, text) => {
  expect(writeGroundings([{ phrase: "cat", boxes: [] }], { convention })).toBe(text);
  expect(parseGroundings(text, { convention })).toEqual({ groundings: [], isParsable: true });
});

test.each([
  ["a code fence", '```json\n[{"bbox_2d": [100, 200, 600, 900], "label": "bus"}]\n```'],
  ["text around it", 'Here it is: {"bbox_2d": [100, 200, 600, 900], "label": "bus"}. Done.'],
  ["an answer cut off in the second object", '[{"bbox_2d": [100, 200, 600, 900], "label": "bus"}, {"bbox_2d": [1, 2'],
  [
    "thoughts before it",
    '<think>maybe {"bbox_2d": [1,1,2,2]}</think>[{"bbox_2d": [100, 200, 600, 900], "label": "bus"}]',
  ],
  ["single quotes and a trailing comma", "[{'bbox_2d': [100, 200, 600, 900], 'label': 'bus',},]"],
  ["other keys", '[{"box": [100, 200, 600, 900], "phrase": "bus"}]'],
  ["objects inside an object", '{"objects": [{"bbox_2d": [100, 200, 600, 900], "label": "bus"}]}'],
  ["sides out of order", '[{"bbox_2d": [600, 900, 100, 200], "label": "bus"}]'],
  ["the other convention", "<ref>bus</ref><box>[[100, 200, 600, 900]]</box>"],
  ["tags cut off", "<ref>bus</ref><box>[[100, 200, 600, 900]"],
])("an answer with %s is read", (_case, answer) => {
  expect(parseGroundings(answer, relative)).toEqual({
    groundings: [{ phrase: "bus", boxes: [[0.1, 0.2, 0.6, 0.9]] }],
    isParsable: true,
  });
});

test("boxes that leave the picture are clipped", () => {
  expect(parseGroundings('[{"bbox_2d": [-50, 0, 1200, 500], "label": "bus"}]', relative).groundings).toEqual([
    { phrase: "bus", boxes: [[0, 0, 1, 0.5]] },
  ]);
});

test.each(["", "There is a bus on the left.", "{", '{"bbox_2d": "left"}', "[[", "null", '{"label": "bus"}'])(
  "%j is flagged as unparsable",
  (answer) => {
    expect(parseGroundings(answer, relative)).toEqual({ groundings: [], isParsable: false });
  },
);

const fraction = fc.integer({ min: 0, max: 1000 }).map((value) => value / 1000);
const anyGrounding = fc.record({
  phrase: fc
    .string({ unit: "grapheme-ascii", minLength: 1, maxLength: 12 })
    .map((text) => text.trim())
    .filter((text) => text !== "" && !text.includes("<")),
  boxes: fc.array(
    fc
      .tuple(fraction, fraction, fraction, fraction)
      .map(([a, b, c, d]): [number, number, number, number] => [
        Math.min(a, c),
        Math.min(b, d),
        Math.max(a, c),
        Math.max(b, d),
      ]),
    { minLength: 1, maxLength: 3 },
  ),
});

test.each([relative, pixels, tags, places])("what $convention writes is read back within half a unit", (space) => {
  fc.assert(
    fc.property(fc.uniqueArray(anyGrounding, { selector: ({ phrase }) => phrase, maxLength: 4 }), (written) => {
      const { groundings: read, isParsable } = parseGroundings(writeGroundings(written, space), space);
      expect(isParsable).toBe(true);
      expect(read.map(({ phrase }) => phrase)).toEqual(written.map(({ phrase }) => phrase));
      for (const [index, { boxes }] of read.entries())
        for (const [place, box] of boxes.entries())
          for (const [side, value] of box.entries())
            expect(Math.abs(value - (written[index]?.boxes[place]?.[side] ?? 9))).toBeLessThanOrEqual(0.5 / 476 + 1e-9);
    }),
  );
});

test("any answer gives boxes inside the picture and no error", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (answer) => {
      const sides = parseGroundings(answer, relative).groundings.flatMap(({ boxes }) => boxes.flat());
      expect(sides.filter((side) => !(side >= 0 && side <= 1))).toEqual([]);
    }),
  );
});
