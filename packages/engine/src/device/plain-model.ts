import { ProtobufWriter } from "../graph/onnx/protobuf-writer.ts";

export interface PlainOperator {
  readonly type: string;
  readonly inputs: readonly string[];
  readonly output: string;
  readonly integers?: Readonly<Record<string, number>>;
}

const opset = 21;
const irVersion = 10;
const integerAttribute = 2;

/**
 * An ONNX model of single-output operators, for what is no part of a model's graph: copies and updates. Shapes are left open.
 *
 * @param inputs   names; all are of `elementType`, ONNX's number of a type
 * @param outputs  names of operators' outputs
 */
export function plainModel(
  operators: readonly PlainOperator[],
  inputs: readonly string[],
  outputs: readonly string[],
  elementType: number,
): Uint8Array {
  const writer = new ProtobufWriter();
  const value = (name: string) => (inner: ProtobufWriter) => {
    inner.text(1, name);
    inner.message(2, (type) => type.message(1, (tensor) => tensor.integer(1, elementType)));
  };
  writer.integer(1, irVersion);
  writer.message(7, (graph) => {
    for (const operator of operators) graph.message(1, (node) => writeOperator(node, operator));
    graph.text(2, "drydock");
    for (const name of inputs) graph.message(11, value(name));
    for (const name of outputs) graph.message(12, value(name));
  });
  writer.message(8, (inner) => {
    inner.text(1, "");
    inner.integer(2, opset);
  });
  return writer.finish();
}

function writeOperator(node: ProtobufWriter, { type, inputs, output, integers = {} }: PlainOperator): void {
  for (const input of inputs) node.text(1, input);
  node.text(2, output);
  node.text(4, type);
  for (const [name, value] of Object.entries(integers))
    node.message(5, (attribute) => {
      attribute.text(1, name);
      attribute.integer(3, value);
      attribute.integer(20, integerAttribute);
    });
}
