import { badConfig } from "./config-file.ts";

/** Blocks that a state of the tower has gone through; negative numbers count from the last one. */
export function layerOf(key: string, index: number, depth: number): number {
  const layer = index < 0 ? depth + 1 + index : index;
  if (!Number.isInteger(index) || layer < 0 || layer > depth)
    throw badConfig(`${key} ${index} is none of the ${depth + 1} states of a tower of ${depth} blocks`);
  return layer;
}
