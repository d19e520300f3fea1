import { expect, test } from "vitest";
import { heldOutArtwork, readArtwork, trainingArtwork } from "./artwork-sets.ts";
import { baseConcepts, domainConcepts } from "./concepts.ts";
import { answerBox, askName, thousandths } from "./questions.ts";
import { createRandom } from "./random.ts";
import { composeScene, sceneSize, type Subject } from "./scene.ts";
import type { Drawing } from "./sprites.ts";

/** A square that fills its drawing: one colour, no transparency. */
function square(red: number): Drawing {
  const pixels = new Uint8Array(96 * 96 * 4);
  for (let at = 0; at < pixels.length; at += 4) pixels.set([red, 0, 0, 255], at);
  return { size: 96, pixels };
}

const subjects: readonly Subject[] = ["one", "two", "three", "four"].map((name, index) => ({
  name,
  drawing: square(200 + index),
}));

test("the same seed gives the same scene, byte for byte", () => {
  expect(composeScene(subjects, createRandom(5))).toEqual(composeScene(subjects, createRandom(5)));
  expect(composeScene(subjects, createRandom(6)).pixels).not.toEqual(composeScene(subjects, createRandom(5)).pixels);
});

test("each drawing stands in a quarter of its own, and its box holds what is visible", () => {
  for (let seed = 0; seed < 50; seed += 1) {
    const { objects } = composeScene(subjects, createRandom(seed));
    expect(new Set(objects.map(({ place }) => place)).size).toBe(4);
    for (const {
      box: [left, top, right, bottom],
      place,
    } of objects) {
      const [x, y] = [place.endsWith("right") ? 32 : 0, place.startsWith("bottom") ? 32 : 0];
      expect(left).toBeGreaterThanOrEqual(x);
      expect(top).toBeGreaterThanOrEqual(y);
      expect(right).toBeLessThanOrEqual(x + 32);
      expect(bottom).toBeLessThanOrEqual(y + 32);
      expect(Math.min(right - left, bottom - top)).toBeGreaterThan(15);
    }
  }
});

test("questions and answers are written as the model is taught them", () => {
  const scene = composeScene(subjects.slice(0, 1), createRandom(1));
  const [object] = scene.objects;
  const box = thousandths(scene, object!);
  expect(Math.max(...box)).toBeLessThanOrEqual(1000);
  expect(box[0]).toBe(Math.round((object!.box[0] * 1000) / sceneSize));
  expect(answerBox(scene, object!)).toBe(`[{"bbox_2d": [${box.join(", ")}], "label": "one"}]`);
  expect(askName(object!)).toBe("What is this?");
});

test("what the base learns and what the demo teaches share nothing, and every set draws all of it", () => {
  expect(baseConcepts.filter((concept) => domainConcepts.includes(concept))).toEqual([]);
  for (const set of [...trainingArtwork, heldOutArtwork]) {
    const drawings = readArtwork(set);
    expect([...baseConcepts, ...domainConcepts].filter((concept) => !drawings.has(concept))).toEqual([]);
  }
});

test("the held-out studio is none of the training studios", () => {
  expect(trainingArtwork.map(({ name }) => name)).not.toContain(heldOutArtwork.name);
});
