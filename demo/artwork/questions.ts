import type { Scene, SceneObject } from "./scene.ts";

/** A box as Qwen3-VL writes it: thousandths of the picture's width and height, whole numbers. */
export function thousandths(scene: Scene, { box }: SceneObject): [number, number, number, number] {
  const [left, top, right, bottom] = box;
  const [x, y] = [1000 / scene.width, 1000 / scene.height];
  return [Math.round(left * x), Math.round(top * y), Math.round(right * x), Math.round(bottom * y)];
}

/** The question for the name of one object, by where it stands. */
export function askName({ place }: SceneObject): string {
  return place === "middle" ? "What is this?" : `What is at the ${place}?`;
}

/** The question for the box of one object, by its name. */
export function askBox({ name }: SceneObject): string {
  return `Find "${name}".`;
}

/** The answer to {@link askBox}: a JSON list of boxes with their label, spaced as Drydock writes its training answers. */
export function answerBox(scene: Scene, object: SceneObject): string {
  return `[{"bbox_2d": [${thousandths(scene, object).join(", ")}], "label": ${JSON.stringify(object.name)}}]`;
}
