import type { Node } from "../ops.ts";
import { Encoder, type EncodedGraph, type Precision, type WeightLocation } from "./encoder.ts";
import { opEncodings } from "./op-encodings.ts";

/**
 * Encodes the graph of `outputs` as an ONNX model. Symbolic sizes become int64 inputs, so one session serves all shapes.
 *
 * @param outputs  name → node
 * @param weights  where each `Weight` lies; one without a location becomes a graph input, fed by the caller
 */
export function encodeOnnx(
  outputs: Readonly<Record<string, Node>>,
  weights: ReadonlyMap<string, WeightLocation> = new Map(),
  precision: Precision = {},
): EncodedGraph {
  const encoder = new Encoder(opEncodings, weights, precision);
  return encoder.encode(outputs);
}
