import type { ProtobufWriter } from "./protobuf-writer.ts";
import { elementTypes } from "./values.ts";

/** A node of an ONNX graph by its names, before it is bytes. */
export interface PlainNode {
  readonly type: string;
  readonly domain?: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly integers?: Readonly<Record<string, number>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly texts?: Readonly<Record<string, string>>;
  readonly lists?: Readonly<Record<string, readonly number[]>>;
  readonly graphs?: Readonly<Record<string, (writer: ProtobufWriter) => void>>;
}

export function toFloat32(input: string, output: string): PlainNode {
  return { type: "Cast", inputs: [input], outputs: [output], integers: { to: elementTypes.float32 } };
}

export function writeNode(writer: ProtobufWriter, node: PlainNode): void {
  for (const input of node.inputs) writer.text(1, input);
  for (const output of node.outputs) writer.text(2, output);
  writer.text(3, node.outputs[0] as string);
  writer.text(4, node.type);
  for (const [name, value] of Object.entries(node.integers ?? {}))
    writeAttribute(writer, name, 2, (attribute) => attribute.integer(3, value));
  for (const [name, value] of Object.entries(node.floats ?? {}))
    writeAttribute(writer, name, 1, (attribute) => attribute.float(2, value));
  for (const [name, value] of Object.entries(node.texts ?? {}))
    writeAttribute(writer, name, 3, (attribute) => attribute.text(4, value));
  for (const [name, values] of Object.entries(node.lists ?? {}))
    writeAttribute(writer, name, 7, (attribute) => values.forEach((value) => attribute.integer(8, value)));
  for (const [name, write] of Object.entries(node.graphs ?? {}))
    writeAttribute(writer, name, 5, (attribute) => attribute.message(6, write));
  if (node.domain) writer.text(7, node.domain);
}

function writeAttribute(
  writer: ProtobufWriter,
  name: string,
  type: number,
  write: (attribute: ProtobufWriter) => void,
): void {
  writer.message(5, (attribute) => {
    attribute.text(1, name);
    write(attribute);
    attribute.integer(20, type);
  });
}
