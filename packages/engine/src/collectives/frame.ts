/** Length of a frame's header in bytes. */
export const headerBytes = 32;

/** "DRYC" */
const magic = 0x44525943;

const kinds = ["data", "ready", "heartbeat", "abort", "bye"] as const;
export type FrameKind = (typeof kinds)[number];

const operations = ["none", "all-reduce", "reduce-scatter", "all-gather", "broadcast", "forward", "back"] as const;
export type FrameOperation = (typeof operations)[number];

/**
 * What every frame starts with, big-endian: magic u32, kind u8, operation u8, zero u16, epoch u32, sequence u32, index u32,
 * payload length u32, elements of the whole vector f64.
 */
export interface FrameHeader {
  readonly kind: FrameKind;
  readonly operation: FrameOperation;
  /** Attempt epoch. */
  readonly epoch: number;
  /** Number of the operation since the ring was closed. */
  readonly sequence: number;
  /** Position of a data frame in its operation; the lost rank in an abort. */
  readonly index: number;
  readonly payloadBytes: number;
  /** Elements of the operation's whole vector: two ranks that disagree are found out. */
  readonly elements: number;
}

export function writeHeader(header: FrameHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt32BE(magic, 0);
  bytes.writeUInt8(kinds.indexOf(header.kind), 4);
  bytes.writeUInt8(operations.indexOf(header.operation), 5);
  bytes.writeUInt32BE(header.epoch, 8);
  bytes.writeUInt32BE(header.sequence, 12);
  bytes.writeUInt32BE(header.index, 16);
  bytes.writeUInt32BE(header.payloadBytes, 20);
  bytes.writeDoubleBE(header.elements, 24);
  return bytes;
}

/** Null when the bytes are not a header of ours. */
export function readHeader(bytes: Buffer): FrameHeader | null {
  const kind = kinds[bytes.readUInt8(4)];
  const operation = operations[bytes.readUInt8(5)];
  if (bytes.readUInt32BE(0) !== magic || kind === undefined || operation === undefined) return null;
  return {
    kind,
    operation,
    epoch: bytes.readUInt32BE(8),
    sequence: bytes.readUInt32BE(12),
    index: bytes.readUInt32BE(16),
    payloadBytes: bytes.readUInt32BE(20),
    elements: bytes.readDoubleBE(24),
  };
}
