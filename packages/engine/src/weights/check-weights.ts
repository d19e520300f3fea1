/*
 * Whether the files of a model folder hold what its config.json asks for, found from their headers: names, shapes and types,
 * and no tensor that nobody reads. Values are read for one thing only, a tied head that is stored twice. Numbers that are not
 * finite are found when a weight is read.
 */
import { quantizedNames } from "../quantization/quantized-weights.ts";
import { open } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import { wholeForward, type Model } from "../models/model.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { FloatReader } from "./float-reader.ts";
import { findTensor, type FoundTensor } from "./find-tensor.ts";
import type { ModelFolder } from "./model-folder.ts";
import { nearestName } from "./nearest-name.ts";
import { bytesPerElement, readExactly, type SafetensorsHeader } from "./safetensors.ts";

const tiedHead = "lm_head.weight";

/** Buffers that older files hold beside the weights, and that are computed. */
const computedBuffer = /(^|\.)(position_ids|inv_freq)$/;

/** Which stored tensors the model does not read as they follow from others: whoever loads the folder makes them anew. */
export function madeAnew(model: Model): (storedName: string) => boolean {
  const heads = wholeForward(model).variables.shapes.has(tiedHead) ? [] : model.storedNames(tiedHead);
  return (storedName) => computedBuffer.test(storedName) || heads.includes(storedName);
}

/**
 * @throws InvalidError `duplicate_weight`, `missing_weight`, `unknown_weight`, `bad_weight_shape`, `bad_weight_type` or
 *   `tied_weights_differ`, naming the tensors, with the nearest known name
 */
export async function checkWeights(folder: ModelFolder): Promise<void> {
  const files = filesByName(folder);
  const { shapes } = wholeForward(folder.model).variables;
  const isMadeAnew = madeAnew(folder.model);
  const read = new Set<string>();
  const missing: string[] = [];
  for (const [name, shape] of shapes) {
    if (folder.quantized?.has(name)) continue;
    const storedNames = folder.model.storedNames(name);
    const storedName = storedNames.find((each) => files.has(each));
    if (storedName === undefined) missing.push(storedNames[0] ?? name);
    else read.add(checkType(folder, findTensor(folder, name, shape.map(Number))));
  }
  const layers = [...(folder.quantized?.layers.keys() ?? [])].flatMap((path) =>
    quantizedNames(folder.model, `${path}.weight`).map((name) => name.replace(/weight$/, "")),
  );
  const unread = [...files.keys()].filter(
    (name) => !read.has(name) && !layers.some((prefix) => name.startsWith(prefix)),
  );
  const unknown = unread.filter((name) => !isMadeAnew(name) && !folder.model.isUnused(name));
  if (missing.length > 0) throw missingWeights(folder, missing, unknown.length > 0 ? unknown : files.keys());
  if (unknown.length > 0) throw unknownWeights(folder, unknown, shapes.keys());
  const head = folder.model.storedNames(tiedHead).find((name) => unread.includes(name));
  if (head !== undefined) await checkTiedHead(folder, shapes.keys(), head, files.get(head) as SafetensorsHeader);
}

/**
 * Reads every weight, for when something came out that is no number: ONNX Runtime reads weights in place and says nothing.
 *
 * @throws InvalidError `weight_not_finite` naming the first weight that holds such a number
 */
export async function refuseNotFinite(folder: ModelFolder): Promise<void> {
  const reader = new FloatReader();
  let memory = sharedFloats(0);
  for (const header of folder.headers)
    for (const [name, entry] of header.tensors) {
      if (!isFloat(entry.type) || folder.model.isUnused(name)) continue;
      const length = entry.sizeBytes / bytesPerElement[entry.type];
      if (memory.length < length) memory = sharedFloats(length);
      await reader.read(header.path, entry, memory.subarray(0, length), true);
    }
}

function filesByName({ headers }: ModelFolder): ReadonlyMap<string, SafetensorsHeader> {
  const files = new Map<string, SafetensorsHeader>();
  for (const header of headers)
    for (const name of header.tensors.keys()) {
      const before = files.get(name);
      if (before)
        throw new InvalidError(
          "duplicate_weight",
          `tensor ${name} lies in both ${before.path} and ${header.path}; remove the file that does not belong to the model`,
        );
      files.set(name, header);
    }
  return files;
}

function isFloat(type: string): boolean {
  return /^B?F\d+$/.test(type);
}

function checkType({ directory }: ModelFolder, { entry, storedName }: FoundTensor): string {
  if (!isFloat(entry.type))
    throw new InvalidError(
      "bad_weight_type",
      `weight ${storedName} of ${directory} is stored as ${entry.type}; F32, BF16, F16 and F64 are understood`,
    );
  return storedName;
}

/** At most so many names in a message. */
const namesTold = 3;

function listed(names: readonly string[], nearest: (name: string) => string | null, word: string): string {
  const told = names.slice(0, namesTold).map((name) => {
    const near = nearest(name);
    return near === null ? name : `${name} (${word} ${near})`;
  });
  return names.length > namesTold ? `${told.join(", ")} and ${names.length - namesTold} more` : told.join(", ");
}

function missingWeights(
  { directory }: ModelFolder,
  missing: readonly string[],
  stored: Iterable<string>,
): InvalidError {
  const candidates = [...stored];
  return new InvalidError(
    "missing_weight",
    `folder ${directory} lacks weights that its config.json asks for: ` +
      `${listed(missing, (name) => nearestName(name, candidates), "nearest in its files:")}; ` +
      "fetch the files again, or see whether config.json belongs to them",
  );
}

function unknownWeights(
  { directory, model }: ModelFolder,
  unknown: readonly string[],
  names: Iterable<string>,
): InvalidError {
  const candidates = [...names].flatMap((name) => model.storedNames(name));
  return new InvalidError(
    "unknown_weight",
    `folder ${directory} holds tensors that the ${model.type} model of its config.json does not have: ` +
      `${listed(unknown, (name) => nearestName(name, candidates), "nearest of the model:")}; ` +
      "see whether config.json belongs to these files, or remove the tensors",
  );
}

/** A head that shares the embedding's weight may be stored once more, with the same values. */
async function checkTiedHead(
  folder: ModelFolder,
  names: Iterable<string>,
  headName: string,
  headFile: SafetensorsHeader,
): Promise<void> {
  const embedding = [...names].find((name) => name.endsWith("embed_tokens.weight"));
  if (embedding === undefined) return;
  const table = findTensor(folder, embedding);
  const head = headFile.tensors.get(headName) as FoundTensor["entry"];
  const isAlike = head.type === table.entry.type && head.shape.join() === table.entry.shape.join();
  if (isAlike && (await sameBytes(headFile.path, head, table.header.path, table.entry))) return;
  throw new InvalidError(
    "tied_weights_differ",
    `config.json of ${folder.directory} ties the output head to the embeddings, but ${headName} and ${table.storedName} ` +
      'hold different values; set "tie_word_embeddings" to false to use both, or remove the one that is wrong',
  );
}

async function sameBytes(
  pathA: string,
  a: FoundTensor["entry"],
  pathB: string,
  b: FoundTensor["entry"],
): Promise<boolean> {
  const [fileA, fileB] = [await open(pathA, "r"), await open(pathB, "r")];
  try {
    const pieces = [Buffer.alloc(1 << 22), Buffer.alloc(1 << 22)] as const;
    for (let start = 0; start < a.sizeBytes; start += pieces[0].length) {
      const length = Math.min(pieces[0].length, a.sizeBytes - start);
      const [left, right] = pieces.map((piece) => piece.subarray(0, length)) as [Buffer, Buffer];
      await readExactly(fileA, pathA, a.offset + start, left);
      await readExactly(fileB, pathB, b.offset + start, right);
      if (!left.equals(right)) return false;
    }
    return true;
  } finally {
    await fileA.close();
    await fileB.close();
  }
}
