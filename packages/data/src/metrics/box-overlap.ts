import type { Box } from "@drydock/spec";

/** Intersection over union of two boxes (left, top, right, bottom), on continuous coordinates: no pixel is added. */
export function intersectionOverUnion(first: Box, second: Box): number {
  const width = Math.min(first[2], second[2]) - Math.max(first[0], second[0]);
  const height = Math.min(first[3], second[3]) - Math.max(first[1], second[1]);
  if (width <= 0 || height <= 0) return 0;
  const intersection = width * height;
  // The product of two tiny sides can be 0.
  return intersection === 0 ? 0 : intersection / (area(first) + area(second) - intersection);
}

function area(box: Box): number {
  return Math.max(0, box[2] - box[0]) * Math.max(0, box[3] - box[1]);
}
