import type { BoxSpace } from "@drydock/data";

/**
 * How the models that this worker can run write boxes: Qwen3-VL, JSON `bbox_2d`, 0–1000 of the original picture. A family
 * with another convention gets its own here, by `boxConvention` of its facts.
 */
export const boxSpace: BoxSpace = { convention: "json-relative-1000" };
