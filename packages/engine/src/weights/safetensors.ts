import { open, type FileHandle } from "node:fs/promises";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";

/** Element types that Drydock reads. */
export const bytesPerElement = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F64: 8,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;
export type StoredType = keyof typeof bytesPerElement;

/** One tensor of a safetensors file. */
export interface TensorEntry {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  /** Byte position in the file, header included. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface SafetensorsHeader {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;
}

const HeaderTensor = z.object({
  dtype: z.enum(Object.keys(bytesPerElement) as [StoredType, ...StoredType[]]),
  shape: z.array(z.int().nonnegative()),
  data_offsets: z.tuple([z.int().nonnegative(), z.int().nonnegative()]),
});
const maxHeaderBytes = 100_000_000;

/**
 * Reads and checks the header of a safetensors file; no tensor data is read.
 * Format: 8 bytes little-endian header length, JSON, then the data (huggingface/safetensors, README).
 *
 * @throws InvalidError (`bad_safetensors`) naming the file, the tensor and what is wrong
 */
export async function readSafetensorsHeader(path: string): Promise<SafetensorsHeader> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    if (size < 8) throw badSafetensors(path, `it has ${size} bytes, too few for a safetensors file; fetch it again`);
    const lengthBytes = new Uint8Array(8);
    await readExactly(file, path, 0, lengthBytes);
    const length = Number(new DataView(lengthBytes.buffer).getBigUint64(0, true));
    if (length > maxHeaderBytes || 8 + length > size)
      throw badSafetensors(path, `its header claims ${length} bytes but the file has ${size}; fetch the file again`);
    const text = new Uint8Array(length);
    await readExactly(file, path, 8, text);
    const header = parseHeader(path, text);
    return { path, tensors: checkTensors(path, header, 8 + length, size), metadata: metadataOf(header) };
  } finally {
    await file.close();
  }
}

/** Raw bytes of one tensor. @param memory  as large as the tensor; default new memory of this thread */
export async function readTensorBytes(
  header: SafetensorsHeader,
  name: string,
  memory?: ArrayBufferLike,
): Promise<Uint8Array> {
  return await readEntryBytes(header.path, entryOf(header, name), memory);
}

/** As {@link readTensorBytes}, for a tensor or a part of one. */
export async function readEntryBytes(
  path: string,
  entry: Pick<TensorEntry, "offset" | "sizeBytes">,
  memory?: ArrayBufferLike,
): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const bytes = new Uint8Array(memory ?? new ArrayBuffer(entry.sizeBytes));
    await readExactly(file, path, entry.offset, bytes);
    return bytes;
  } finally {
    await file.close();
  }
}

export interface WritableTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** A tensor that is made when its turn to be written comes. */
export interface TensorSource {
  readonly name: string;
  readonly type: StoredType;
  readonly shape: readonly number[];
  /** Its bytes, as the type and the shape have them. */
  readonly read: () => Promise<ArrayBufferView>;
}

/** Writes tensors as F32 or I64, data aligned to 64 bytes so that ONNX Runtime can map it in place. */
export async function writeSafetensors(
  path: string,
  tensors: readonly WritableTensor[],
  metadata?: Readonly<Record<string, string>>,
): Promise<void> {
  const sources = tensors.map(({ name, shape, data }): TensorSource => ({
    name,
    shape,
    type: data instanceof Float32Array ? "F32" : "I64",
    read: () => Promise.resolve(data),
  }));
  await writeTensorsInTurn(path, sources, metadata);
}

/** Writes tensors one after the other, so that one of them is in memory at a time. */
export async function writeTensorsInTurn(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let position = 0;
  for (const { name, type, shape } of tensors) {
    const sizeBytes = shape.reduce((size, side) => size * side, bytesPerElement[type]);
    header[name] = { dtype: type, shape, data_offsets: [position, position + sizeBytes] };
    position += sizeBytes;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padding = (64 - ((8 + text.length) % 64)) % 64;
  const prefix = Buffer.alloc(8 + text.length + padding, " ");
  prefix.writeBigUInt64LE(BigInt(text.length + padding));
  text.copy(prefix, 8);
  const file = await open(path, "w");
  try {
    await writeFully(file, prefix);
    for (const { read } of tensors) {
      const data = await read();
      await writeFully(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A write may take fewer bytes than it was given, on a disk that is nearly full for one. */
async function writeFully(file: FileHandle, bytes: Uint8Array): Promise<void> {
  const piece = 1 << 28;
  for (let start = 0; start < bytes.length;) {
    const { bytesWritten } = await file.write(bytes.subarray(start, start + piece));
    start += bytesWritten;
  }
}

function parseHeader(path: string, bytes: Uint8Array): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    throw badSafetensors(path, `its header is no JSON (${messageOf(error)}); fetch the file again`);
  }
  throw badSafetensors(path, "its header is no JSON object; fetch the file again");
}

function checkTensors(
  path: string,
  header: Record<string, unknown>,
  dataStart: number,
  size: number,
): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const parsed = HeaderTensor.safeParse(value);
    if (!parsed.success)
      throw badSafetensors(
        path,
        `tensor ${name}: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`,
      );
    const {
      dtype,
      shape,
      data_offsets: [start, end],
    } = parsed.data;
    const wanted = shape.reduce((count, dimension) => count * dimension, bytesPerElement[dtype]);
    if (end - start !== wanted)
      throw badSafetensors(
        path,
        `tensor ${name} of ${dtype} [${shape.join(", ")}] needs ${wanted} bytes but its offsets span ${end - start}`,
      );
    if (dataStart + end > size)
      throw badSafetensors(
        path,
        `tensor ${name} ends at byte ${dataStart + end} but the file has ${size}; it was cut, fetch it again`,
      );
    tensors.set(name, { name, type: dtype, shape, offset: dataStart + start, sizeBytes: end - start });
  }
  return tensors;
}

function metadataOf(header: Record<string, unknown>): Record<string, string> {
  return z
    .record(z.string(), z.string())
    .catch({})
    .parse(header["__metadata__"] ?? {});
}

/** @throws InvalidError when the file has no such tensor */
export function entryOf(header: SafetensorsHeader, name: string): TensorEntry {
  const entry = header.tensors.get(name);
  if (!entry) throw badSafetensors(header.path, `it has no tensor ${name}`);
  return entry;
}

/** Fills `bytes` from a file, from `position` on. @throws InvalidError when the file ends before */
export async function readExactly(file: FileHandle, path: string, position: number, bytes: Uint8Array): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(bytes.length - done, 1 << 28), position + done);
    if (bytesRead === 0) throw badSafetensors(path, `it ends at byte ${position + done}; fetch it again`);
    done += bytesRead;
  }
}

/** The error of a file that is no usable safetensors file. */
export function badSafetensors(path: string, what: string): InvalidError {
  return new InvalidError("bad_safetensors", `safetensors file ${path} cannot be used: ${what}`);
}
