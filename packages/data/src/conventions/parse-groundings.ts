import type { Box, Grounding } from "@drydock/spec";
import { fromModelBox, type BoxSpace } from "./box-text.ts";

export interface ParsedGroundings {
  readonly groundings: Grounding[];
  /** False when the answer holds nothing that reads as boxes or as "nothing found". */
  readonly isParsable: boolean;
}

const boxKeys = ["bbox_2d", "bbox", "box_2d", "box", "boxes", "coordinates", "coord", "location", "position"];
const phraseKeys = ["label", "phrase", "ref", "name", "object", "class", "category", "text", "description"];

/**
 * A model's answer as groundings in fractions of the original picture, phrases in order of appearance.
 *
 * Tolerated: thoughts in `<think>`, code fences, text around the JSON, an answer cut off in the middle (whole objects
 * before the cut are kept), single quotes, trailing commas, other key names, several boxes in one object, sides out of order, boxes
 * that leave the picture (clipped). The scale is never guessed from the numbers: it is the model's convention.
 */
export function parseGroundings(answer: string, space: BoxSpace): ParsedGroundings {
  const text = answer.replaceAll(/<think>[\s\S]*?(?:<\/think>|$)/g, "").trim();
  if (saysNothing(text)) return { groundings: [], isParsable: true };
  if (space.convention === "paligemma-loc") {
    const places = readPlaces(text);
    // These places are no thousandths, so nothing else is read as them.
    return places ? { groundings: group(places, space), isParsable: true } : { groundings: [], isParsable: false };
  }
  const found = space.convention === "internvl-ref-box" ? readTags(text) : readJson(text);
  // A model that was not trained on its family's convention may answer in the other one.
  const read = found ?? (space.convention === "internvl-ref-box" ? readJson(text) : readTags(text));
  if (read === null) return { groundings: [], isParsable: false };
  return { groundings: group(read, space), isParsable: true };
}

interface Found {
  readonly phrase: string;
  readonly box: Box;
}

function saysNothing(text: string): boolean {
  return /^(?:(?:```(?:json)?\s*)?\[\s*\](?:\s*```)?|none\.?)$/i.test(text);
}

function group(found: readonly Found[], space: BoxSpace): Grounding[] {
  const boxes = new Map<string, Box[]>();
  for (const { phrase, box } of found) boxes.set(phrase, [...(boxes.get(phrase) ?? []), fromModelBox(box, space)]);
  return [...boxes].map(([phrase, own]) => ({ phrase, boxes: own }));
}

function readTags(text: string): Found[] | null {
  const found: Found[] = [];
  for (const [, phrase, numbers] of text.matchAll(/<ref>([\s\S]*?)<\/ref>\s*<box>([\s\S]*?)(?:<\/box>|$)/g)) {
    for (const box of boxesInText(numbers ?? "")) found.push({ phrase: (phrase ?? "").trim(), box });
  }
  return found.length === 0 ? null : found;
}

/** `<loc…>` four times and the phrase, up to the next ones. */
function readPlaces(text: string): Found[] | null {
  const pattern = /<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>\s*([\s\S]*?)\s*(?=;\s*<loc|$)/g;
  const found = [...text.matchAll(pattern)].map(([, top, left, bottom, right, phrase = ""]): Found => ({
    phrase: phrase.replaceAll(/<seg\d{3}>/g, "").trim(),
    box: [Number(left), Number(top), Number(right), Number(bottom)],
  }));
  return found.length === 0 ? null : found;
}

function boxesInText(text: string): Box[] {
  const number = String.raw`\s*(-?\d+(?:\.\d+)?)\s*`;
  const pattern = new RegExp(String.raw`\[${number},${number},${number},${number}\]`, "g");
  return [...text.matchAll(pattern)].map(([, ...values]) => {
    const [left = 0, top = 0, right = 0, bottom = 0] = values.map(Number);
    return [left, top, right, bottom];
  });
}

/** Null when there is neither an object with a box nor an empty list. */
function readJson(text: string): Found[] | null {
  const objects = wholeObjects(text);
  const found = objects.flatMap(readObject);
  if (found.length > 0) return found;
  return objects.length === 0 && /\[\s*\]/.test(text) && !/\d/.test(text) ? [] : null;
}

/** Every innermost-complete `{…}` of the text that parses, in order; an object that is cut off is left out. */
function wholeObjects(text: string): Record<string, unknown>[] {
  const objects: Record<string, unknown>[] = [];
  let start = text.indexOf("{");
  while (start !== -1) {
    const end = closingBrace(text, start);
    const parsed = end === null ? null : parseLoosely(text.slice(start, end + 1));
    if (parsed && holdsBox(parsed)) objects.push(parsed);
    // An object without a box of its own may hold ones that have: look inside.
    start = text.indexOf("{", end !== null && parsed && holdsBox(parsed) ? end + 1 : start + 1);
  }
  return objects;
}

function holdsBox(object: Record<string, unknown>): boolean {
  return boxKeys.some((key) => key in object);
}

function closingBrace(text: string, start: number): number | null {
  let depth = 0;
  let isInText = false;
  for (let index = start; index < text.length; index++) {
    const character = text[index];
    if (character === "\\" && isInText) index += 1;
    else if (character === '"') isInText = !isInText;
    else if (!isInText && character === "{") depth += 1;
    else if (!isInText && character === "}") {
      depth -= 1;
      if (depth === 0) return index;
    }
  }
  return null;
}

function parseLoosely(text: string): Record<string, unknown> | null {
  const withoutTrailingCommas = text.replaceAll(/,\s*([}\]])/g, "$1");
  for (const candidate of [text, withoutTrailingCommas, withoutTrailingCommas.replaceAll("'", '"')]) {
    try {
      const value: unknown = JSON.parse(candidate);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return null;
}

function readObject(object: Record<string, unknown>): Found[] {
  const key = boxKeys.find((candidate) => candidate in object);
  const phraseKey = phraseKeys.find((candidate) => typeof object[candidate] === "string");
  const phrase = phraseKey === undefined ? "" : String(object[phraseKey]).trim();
  return boxesIn(key === undefined ? null : object[key]).map((box) => ({ phrase, box }));
}

function boxesIn(value: unknown): Box[] {
  if (typeof value === "string") return boxesInText(value.startsWith("[") ? value : `[${value}]`);
  if (!Array.isArray(value)) return [];
  const [left, top, right, bottom, ...rest] = value as unknown[];
  if (isNumber(left) && isNumber(top) && isNumber(right) && isNumber(bottom) && rest.length === 0)
    return [[left, top, right, bottom]];
  return value.flatMap(boxesIn);
}

function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}
