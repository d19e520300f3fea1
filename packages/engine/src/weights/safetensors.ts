import { open, type FileHandle } from "node:fs/promises";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import { sharedFloats } from "../runtime/shared-floats.ts";

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
    const lengthBytes = await readExactly(file, path, 0, 8, size);
    const length = Number(new DataView(lengthBytes.buffer, lengthBytes.byteOffset).getBigUint64(0, true));
    if (length > maxHeaderBytes || 8 + length > size)
      throw bad(path, `its header claims ${length} bytes but the file has ${size}; fetch the file again`);
    const header = parseHeader(path, await readExactly(file, path, 8, length, size));
    return { path, tensors: checkTensors(path, header, 8 + length, size), metadata: metadataOf(header) };
  } finally {
    await file.close();
  }
}

/** Reads tensors of a file as float32 (BF16, F16 and F64 are converted) into shared memory, by name. */
export async function readFloatTensors(
  header: SafetensorsHeader,
  names: Iterable<string>,
): Promise<Map<string, Float32Array>> {
  const file = await open(header.path, "r");
  try {
    const result = new Map<string, Float32Array>();
    for (const name of names) {
      const entry = entryOf(header, name);
      const { offset, sizeBytes } = entry;
      const memory = new SharedArrayBuffer(sizeBytes);
      const bytes = await readExactly(file, header.path, offset, sizeBytes, Number.MAX_SAFE_INTEGER, memory);
      result.set(name, toFloat32(header.path, entry, bytes));
    }
    return result;
  } finally {
    await file.close();
  }
}

/** Raw bytes of one tensor. */
export async function readTensorBytes(header: SafetensorsHeader, name: string): Promise<Uint8Array> {
  const entry = entryOf(header, name);
  const file = await open(header.path, "r");
  try {
    return await readExactly(file, header.path, entry.offset, entry.sizeBytes, Number.MAX_SAFE_INTEGER);
  } finally {
    await file.close();
  }
}

export interface WritableTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array | BigInt64Array;
}

/** Writes tensors as F32 or I64, data aligned to 64 bytes so that ONNX Runtime can map it in place. */
export async function writeSafetensors(
  path: string,
  tensors: readonly WritableTensor[],
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let position = 0;
  for (const { name, shape, data } of tensors) {
    header[name] = {
      dtype: data instanceof Float32Array ? "F32" : "I64",
      shape,
      data_offsets: [position, position + data.byteLength],
    };
    position += data.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const padding = (64 - ((8 + text.length) % 64)) % 64;
  const prefix = Buffer.alloc(8 + text.length + padding, " ");
  prefix.writeBigUInt64LE(BigInt(text.length + padding));
  text.copy(prefix, 8);
  const file = await open(path, "w");
  try {
    await writeFully(file, prefix);
    for (const { data } of tensors)
      await writeFully(file, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
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
    throw bad(path, `its header is no JSON (${messageOf(error)}); fetch the file again`);
  }
  throw bad(path, "its header is no JSON object; fetch the file again");
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
      throw bad(path, `tensor ${name}: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`);
    const {
      dtype,
      shape,
      data_offsets: [start, end],
    } = parsed.data;
    const wanted = shape.reduce((count, dimension) => count * dimension, bytesPerElement[dtype]);
    if (end - start !== wanted)
      throw bad(
        path,
        `tensor ${name} of ${dtype} [${shape.join(", ")}] needs ${wanted} bytes but its offsets span ${end - start}`,
      );
    if (dataStart + end > size)
      throw bad(
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

function entryOf(header: SafetensorsHeader, name: string): TensorEntry {
  const entry = header.tensors.get(name);
  if (!entry) throw bad(header.path, `it has no tensor ${name}`);
  return entry;
}

async function readExactly(
  file: FileHandle,
  path: string,
  position: number,
  length: number,
  fileSize: number,
  memory: ArrayBufferLike = new ArrayBuffer(length),
): Promise<Uint8Array> {
  if (position + length > fileSize)
    throw bad(path, `it has ${fileSize} bytes, too few for a safetensors file; fetch it again`);
  const bytes = new Uint8Array(memory);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, 1 << 28), position + done);
    if (bytesRead === 0) throw bad(path, `it ends at byte ${position + done}; fetch it again`);
    done += bytesRead;
  }
  return bytes;
}

/** In shared memory: threads read weights where they lie, and no copy doubles them for a while. */
function toFloat32(path: string, entry: TensorEntry, bytes: Uint8Array): Float32Array {
  switch (entry.type) {
    case "F32":
      return new Float32Array(bytes.buffer, bytes.byteOffset, entry.sizeBytes / 4);
    case "BF16": {
      const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, entry.sizeBytes / 2);
      const values = sharedFloats(halves.length);
      const bits = new Uint32Array(values.buffer);
      for (let index = 0; index < halves.length; index++) bits[index] = (halves[index] as number) << 16;
      return values;
    }
    case "F16": {
      const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, entry.sizeBytes / 2);
      const values = sharedFloats(halves.length);
      for (let index = 0; index < halves.length; index++) values[index] = halfToFloat(halves[index] as number);
      return values;
    }
    case "F64": {
      const values = sharedFloats(entry.sizeBytes / 8);
      values.set(new Float64Array(bytes.buffer, bytes.byteOffset, entry.sizeBytes / 8));
      return values;
    }
    case "I64":
    case "I32":
    case "I16":
    case "I8":
    case "U8":
    case "BOOL":
      throw bad(path, `tensor ${entry.name} holds ${entry.type}, not floating-point numbers`);
  }
}

/** IEEE 754 binary16 bits to a number. */
function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function bad(path: string, what: string): InvalidError {
  return new InvalidError("bad_safetensors", `safetensors file ${path} cannot be used: ${what}`);
}
