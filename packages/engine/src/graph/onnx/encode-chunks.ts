import type { Body, Node } from "../ops.ts";
import { product, type Dimension, type Shape } from "../shape.ts";
import type { Encoder } from "./encoder.ts";

/** Cut inputs are filled up and get an axis of pieces, along which Scan takes them; what it joins is cut to length. */
export function encodeChunks(node: Node, encoder: Encoder, inputs: readonly string[]): void {
  const name = encoder.name(node);
  const body = node.body as Body;
  const inPieces = (shape: Shape, axis: number): Shape => shape.toSpliced(axis, 1, body.chunks.count, body.chunks.size);
  const cut = body.pieces.map((piece, index) => {
    const axis = body.axes[index] as number;
    const rank = piece.shape.length;
    const place = `${name}:cut${index}`;
    const fill = `${place}:fill`;
    if (piece.dtype === "int64") encoder.integer(fill, body.padding[index] as number);
    else encoder.floats(fill, [], Float32Array.of(body.padding[index] as number));
    const amounts = Array.from({ length: 2 * rank }, (_, at): Dimension => (at === rank + axis ? body.chunks.rest : 0));
    encoder.plain({
      type: "Pad",
      inputs: [inputs[index] as string, encoder.shape(amounts), fill],
      outputs: [`${place}:filled`],
    });
    encoder.plain({
      type: "Reshape",
      inputs: [`${place}:filled`, encoder.shape(inPieces(piece.shape, axis))],
      outputs: [place],
    });
    return place;
  });
  const aliases = new Map<Node, string>();
  body.pieces.forEach((piece, index) => aliases.set(piece, `${name}/piece${index}`));
  body.whole.forEach((whole, index) => aliases.set(whole, inputs[body.pieces.length + index] as string));
  const { write } = encoder.body(node, aliases);
  const zeros = body.summed.map(({ shape }, index) => {
    const zero = `${name}:zero${index}`;
    encoder.floats("seen", [], Float32Array.of(0));
    const sizes = shape.length === 0 ? encoder.integers([]) : encoder.shape(shape);
    encoder.plain({ type: "Expand", inputs: ["seen", sizes], outputs: [zero] });
    return zero;
  });
  const outputs = encoder.names(node);
  const joined = body.joined.map((_, index) => `${name}:joined${index}`);
  encoder.plain({
    type: "Scan",
    inputs: [...zeros, ...cut],
    outputs: [...outputs.slice(joined.length), ...joined],
    integers: { num_scan_inputs: cut.length },
    lists: { scan_input_axes: body.axes, scan_output_axes: body.joinAxes },
    graphs: { body: write },
  });
  body.joined.forEach(({ shape }, index) => {
    const axis = body.joinAxes[index] as number;
    const whole = `${joined[index]}:whole`;
    const length = shape.with(axis, product([body.chunks.count, body.chunks.size]));
    encoder.plain({ type: "Reshape", inputs: [joined[index] as string, encoder.shape(length)], outputs: [whole] });
    encoder.plain({
      type: "Slice",
      inputs: [whole, encoder.integers([0]), encoder.shape([body.length]), encoder.integers([axis])],
      outputs: [outputs[index] as string],
    });
  });
}
