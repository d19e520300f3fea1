import { badConfig } from "./config-file.ts";

/** Blocks that a state of the tower has gone through; negative numbers count from the last one. */
export function layerOf(key: string, index: number, depth: number): number {
  const layer = index < 0 ? depth + 1 + index : index;
  if (!Number.isInteger(index) || layer < 0 || layer > depth)
    throw badConfig(`${key} ${index} is none of the ${depth + 1} states of a tower of ${depth} blocks`);
  return layer;
}

/**
 * Whether a file's tensor lies in a block of the tower behind the state that is used, or is a table that older files hold beside
 * the weights (`rotary_emb.inv_freq`).
 */
export function isBehindFeatures(storedName: string, featureLayer: number): boolean {
  if (storedName.endsWith("rotary_emb.inv_freq")) return true;
  const block = /(?:vision_tower|vision_model)\.(?:vision_model\.)?encoder\.layers?\.(\d+)\./.exec(storedName)?.[1];
  return block !== undefined && Number(block) >= featureLayer;
}
