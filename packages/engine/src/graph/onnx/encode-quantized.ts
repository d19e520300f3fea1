/*
 * Weights in few bits as ONNX operators, by what the CPU provider of ONNX Runtime 1.30 does right and fast
 * (docs/decisions/0012-quantization.md):
 *
 * - MatMulBnb4 for tables, forward only: its transB = 0 gives wrong numbers there.
 * - MatMulNBits for int4 that lies in a file, which it packs once for itself; of bytes that are fed it unpacks all at each run.
 * - DequantizeLinear and Gemm for int8, three times as fast as MatMulNBits of 8 bits.
 */
import {
  blocksOfRow,
  codeBooks,
  isTableFormat,
  type QuantizedFormat,
  type QuantizedLayout,
} from "../../quantization/formats.ts";
import type { Node } from "../ops.ts";
import type { Encoder } from "./encoder.ts";
import type { PlainNode } from "./plain-node.ts";

export function encodeQuantizedMatMul(node: Node, encoder: Encoder, [x, , scales]: readonly string[]): void {
  const layout = layoutOf(node);
  const { format, blockSize, in: K, out: N } = layout;
  const packed = node.inputs[1] as Node;
  const write = (plain: Omit<PlainNode, "outputs">): void => encoder.plain({ ...plain, outputs: [encoder.name(node)] });
  if (isTableFormat(format))
    return write({
      type: "MatMulBnb4",
      domain: "com.microsoft",
      inputs: [x as string, encoder.bytesOf(packed), scales as string],
      integers: { K, N, block_size: blockSize, quant_type: format === "nf4" ? 1 : 0 },
    });
  if (encoder.prefersPackedOperators || (format === "int4" && encoder.isStored(packed)))
    return write({
      type: "MatMulNBits",
      domain: "com.microsoft",
      inputs: [x as string, encoder.bytesOf(packed), scales as string],
      integers: { K, N, bits: format === "int8" ? 8 : 4, block_size: blockSize },
    });
  const weight = dequantized(node, encoder, packed, scales as string, false);
  encoder.product({
    type: "Gemm",
    inputs: [x as string, weight],
    outputs: [encoder.name(node)],
    integers: { transA: 0, transB: 1 },
  });
}

export function encodeDequantize(node: Node, encoder: Encoder, [, scales]: readonly string[]): void {
  const weight = dequantized(node, encoder, node.inputs[0] as Node, scales as string, true);
  encoder.plain({ type: "Identity", inputs: [weight], outputs: [encoder.name(node)] });
}

function layoutOf({ attributes }: Node): QuantizedLayout {
  return attributes as unknown as QuantizedLayout;
}

/**
 * Name of the float32 weight `[out, in]`.
 *
 * @param isReshaped  whether the bytes take another shape on their way. Forward and backward differ in that, for ONNX Runtime
 *                    would else find them equal and keep every layer's float32 weight from the one to the other.
 */
function dequantized(node: Node, encoder: Encoder, packed: Node, scales: string, isReshaped: boolean): string {
  const layout = layoutOf(node);
  const step = (name: string, plain: Omit<PlainNode, "outputs">): string => {
    const output = `${encoder.name(node)}:${name}`;
    encoder.plain({ ...plain, outputs: [output] });
    return output;
  };
  const reshape = (name: string, input: string, shape: readonly number[]): string =>
    step(name, { type: "Reshape", inputs: [input, encoder.integers(shape)] });
  const { format, blockSize, in: width, out } = layout;
  if (isTableFormat(format)) {
    const count = out * width;
    const blocks = Math.ceil(count / blockSize);
    const missing = (blocks * blockSize) / 2 - Math.ceil(count / 2);
    let bytes = encoder.bytesOf(packed);
    if (missing > 0) bytes = step("whole", { type: "Pad", inputs: [bytes, encoder.integers([0, missing])] });
    if (isReshaped) bytes = reshape("bytes", bytes, [blocks, blockSize / 2]);
    const scaled = lookedUp(format, bytes, scales, blocks);
    if (missing === 0 && count === blocks * blockSize) return reshape("weight", scaled, [out, width]);
    const flat = reshape("flat", scaled, [blocks * blockSize]);
    return reshape("weight", cut(flat, 0, count), [out, width]);
  }
  const blocks = blocksOfRow(layout);
  const padded = [out, blocks * blockSize];
  const whole = format === "int8" ? subtracted() : lookedUp4();
  return blocks * blockSize === width ? whole : cut(whole, 1, width);

  /** Two values a byte by a table of all bytes, times the scales: `[blocks, blockSize]`. */
  function lookedUp(table: Exclude<QuantizedFormat, "int8">, bytes: string, of: string, rows: number): string {
    const indices = step("indices", { type: "Cast", inputs: [bytes], integers: { to: 6 } });
    const values = step("values", {
      type: "Gather",
      inputs: [byteTable(encoder, table), indices],
      integers: { axis: 0 },
    });
    const inBlocks = reshape("blocks", values, [rows, blockSize]);
    return step("scaled", { type: "Mul", inputs: [inBlocks, reshape("scales", of, [rows, 1])] });
  }

  function lookedUp4(): string {
    const rows = out * blocks;
    const bytes = encoder.bytesOf(packed);
    const shaped = isReshaped ? reshape("bytes", bytes, [rows * (blockSize / 2)]) : bytes;
    return reshape("padded", lookedUp("int4", shaped, scales, rows), padded);
  }

  function subtracted(): string {
    const rows = isReshaped ? [out * blocks, blockSize] : padded;
    const scaleShape = isReshaped ? [out * blocks, 1] : [out, blocks];
    const zero = encoder.bytes(`zero:${scaleShape.join()}`, scaleShape, new Uint8Array(out * blocks).fill(128));
    const inputs = [
      encoder.isStored(packed) && !isReshaped
        ? encoder.bytesOf(packed, padded)
        : reshape("bytes", encoder.bytesOf(packed), rows),
      isReshaped ? reshape("scales", scales, scaleShape) : scales,
      zero,
    ];
    const values = step("values", { type: "DequantizeLinear", inputs, integers: { axis: 1, block_size: blockSize } });
    return isReshaped ? reshape("padded", values, padded) : values;
  }

  function cut(input: string, axis: number, end: number): string {
    const bounds = [[0], [end], [axis]].map((values) => encoder.integers(values));
    return step("cut", { type: "Slice", inputs: [input, ...bounds] });
  }
}

/** The two values of each byte, `[256, 2]`: tables have the first in the high half of a byte, integers in the low one. */
function byteTable(encoder: Encoder, format: Exclude<QuantizedFormat, "int8">): string {
  const values = new Float32Array(512);
  for (let byte = 0; byte < 256; byte++) {
    const [high, low] = [byte >> 4, byte & 15];
    const pair = format === "int4" ? [low - 8, high - 8] : [codeBooks[format][high], codeBooks[format][low]];
    values.set(pair as number[], byte * 2);
  }
  const name = `table:${format}`;
  encoder.floats(name, [256, 2], values);
  return name;
}
