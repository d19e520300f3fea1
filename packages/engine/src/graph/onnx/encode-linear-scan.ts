import type { Node } from "../ops.ts";
import type { Shape } from "../shape.ts";
import type { Encoder } from "./encoder.ts";
import { writeNode, type PlainNode } from "./plain-node.ts";
import type { ProtobufWriter } from "./protobuf-writer.ts";
import { writeValueInfo } from "./values.ts";

export function encodeLinearScan(node: Node, encoder: Encoder, [a, b, first]: readonly string[]): void {
  const { reverse, transA } = node.attributes as { reverse: boolean; transA: boolean };
  const name = encoder.name(node);
  const [states = "", last = ""] = encoder.names(node);
  const [state, matrix, addend] = [`${name}/state`, `${name}/matrix`, `${name}/addend`];
  const [product, next, seen] = [`${name}/product`, `${name}/next`, `${name}/seen`];
  const [inputA, inputB] = node.inputs as readonly [Node, Node, Node];
  const shape = inputB.shape.slice(1);
  const steps: PlainNode[] = [
    {
      type: "FusedMatMul",
      domain: "com.microsoft",
      inputs: [matrix, state],
      outputs: [product],
      integers: { transA: Number(transA) },
    },
    { type: "Add", inputs: [product, addend], outputs: [next] },
    { type: "Identity", inputs: [state], outputs: [seen] },
  ];
  const body = (graph: ProtobufWriter): void => {
    const info = (field: number, value: string, own: Shape): void =>
      graph.message(field, (inner) => writeValueInfo(inner, value, "float32", own));
    for (const step of steps) graph.message(1, (inner) => writeNode(inner, step));
    graph.text(2, name);
    info(11, state, shape);
    info(11, matrix, inputA.shape.slice(1));
    info(11, addend, shape);
    info(12, next, shape);
    info(12, seen, shape);
  };
  const direction = Number(reverse);
  encoder.plain({
    type: "Scan",
    inputs: [first as string, a as string, b as string],
    outputs: [last, states],
    integers: { num_scan_inputs: 2 },
    lists: { scan_input_directions: [direction, direction], scan_output_directions: [direction] },
    graphs: { body },
  });
}
