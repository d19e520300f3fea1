import type { Readable } from "node:stream";

/** One file of an archive: its path in it, its exact size, and how to read it. */
export interface TarEntry {
  readonly name: string;
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
  readonly open: () => Promise<Readable>;
}

const blockBytes = 512;
/** Largest size that the 11 octal digits of the field can say: 8 GiB less one byte. Larger ones are written base-256. */
const octalLimit = 8 ** 11;

/** A POSIX ustar archive as a stream of chunks; sizes of 8 GiB and more in GNU's base-256 form. Names: at most 100 bytes. */
export async function* tarOf(entries: readonly TarEntry[]): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    yield header(entry);
    let sentBytes = 0;
    for await (const chunk of await entry.open()) {
      sentBytes += (chunk as Buffer).length;
      yield chunk as Buffer;
    }
    if (sentBytes !== entry.sizeBytes) throw new Error(`${entry.name} has ${sentBytes} bytes, not ${entry.sizeBytes}`);
    yield new Uint8Array((blockBytes - (sentBytes % blockBytes)) % blockBytes);
  }
  yield new Uint8Array(2 * blockBytes);
}

function header({ name, sizeBytes, modifiedAt }: TarEntry): Buffer {
  const block = Buffer.alloc(blockBytes);
  if (Buffer.byteLength(name) > 100) throw new Error(`"${name}" is too long for a tar header`);
  const octal = (value: number, width: number): string => `${value.toString(8).padStart(width - 1, "0")}\0`;
  block.write(name, 0);
  block.write(octal(0o644, 8), 100);
  block.write(octal(0, 8), 108);
  block.write(octal(0, 8), 116);
  if (sizeBytes < octalLimit) block.write(octal(sizeBytes, 12), 124);
  else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(sizeBytes), 128);
  }
  block.write(octal(Math.floor(modifiedAt.getTime() / 1000), 12), 136);
  block.write("        ", 148);
  block.write("0", 156);
  block.write("ustar\0", 257);
  block.write("00", 263);
  const checksum = block.reduce((sum, byte) => sum + byte, 0);
  block.write(`${checksum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}
