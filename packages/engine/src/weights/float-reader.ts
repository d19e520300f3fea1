import { open } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import { badSafetensors, bytesPerElement, readExactly, type TensorEntry } from "./safetensors.ts";

/** Bytes that are read at a time: what a 16-bit tensor costs beside its float32 values. */
const pieceBytes = 1 << 23;

/** Turns pieces of a stored tensor into float32; answers where the first number lies that is not finite, or −1. */
type Convert = (bytes: Uint8Array, into: Float32Array) => number;

/**
 * Reads tensors into arrays that the caller has, as float32, a few MB at a time through one buffer of its own.
 *
 * Files are read, not mapped: Node maps none, and what is read stays in the system's cache of files, not in the process, so
 * that a model needs no more memory than the weights that are in use.
 */
export class FloatReader {
  #buffer: Uint8Array | null = null;

  /**
   * @param into         as long as the tensor
   * @param needsFinite  whether a number that is not finite is an error
   * @throws InvalidError `bad_safetensors`, or `weight_not_finite` naming the tensor and the place
   */
  async read(path: string, entry: TensorEntry, into: Float32Array, needsFinite: boolean): Promise<void> {
    const convert = converters[entry.type];
    if (!convert) throw badSafetensors(path, `tensor ${entry.name} holds ${entry.type}, not floating-point numbers`);
    const width = bytesPerElement[entry.type];
    const file = await open(path, "r");
    try {
      for (let start = 0; start < entry.sizeBytes; start += pieceBytes) {
        const length = Math.min(pieceBytes, entry.sizeBytes - start);
        const part = into.subarray(start / width, (start + length) / width);
        const isDirect = entry.type === "F32";
        const bytes = isDirect
          ? new Uint8Array(part.buffer, part.byteOffset, length)
          : this.#scratch().subarray(0, length);
        await readExactly(file, path, entry.offset + start, bytes);
        const wrong = convert(bytes, part);
        if (wrong >= 0 && needsFinite) throw notFinite(path, entry, start / width + wrong, part[wrong] as number);
      }
    } finally {
      await file.close();
    }
  }

  #scratch(): Uint8Array {
    return (this.#buffer ??= new Uint8Array(pieceBytes));
  }
}

function notFinite(path: string, { name, shape }: TensorEntry, place: number, value: number): InvalidError {
  const where: number[] = [];
  let rest = place;
  for (const size of shape.toReversed()) {
    where.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return new InvalidError(
    "weight_not_finite",
    `weight ${name} of ${path} has ${value} at [${where.join(", ")}]; a model with such a number answers nothing, ` +
      "fetch the file again or take a checkpoint from before its training diverged",
  );
}

const converters: Readonly<Partial<Record<TensorEntry["type"], Convert>>> = {
  F32: (_bytes, into) => {
    const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
    let wrong = -1;
    for (let index = 0; index < bits.length; index++)
      if (((bits[index] as number) & 0x7f80_0000) === 0x7f80_0000) {
        wrong = index;
        break;
      }
    return wrong;
  },
  BF16: (bytes, into) => {
    const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, into.length);
    const bits = new Uint32Array(into.buffer, into.byteOffset, into.length);
    let wrong = -1;
    for (let index = 0; index < halves.length; index++) {
      const half = halves[index] as number;
      bits[index] = half << 16;
      if ((half & 0x7f80) === 0x7f80 && wrong < 0) wrong = index;
    }
    return wrong;
  },
  F16: (bytes, into) => {
    const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, into.length);
    let wrong = -1;
    for (let index = 0; index < halves.length; index++) {
      const half = halves[index] as number;
      into[index] = halfToFloat(half);
      if ((half & 0x7c00) === 0x7c00 && wrong < 0) wrong = index;
    }
    return wrong;
  },
  F64: (bytes, into) => {
    into.set(new Float64Array(bytes.buffer, bytes.byteOffset, into.length));
    return into.findIndex((value) => !Number.isFinite(value));
  },
};

/** IEEE 754 binary16 bits to a number. */
function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
