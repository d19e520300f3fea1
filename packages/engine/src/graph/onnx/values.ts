import type { DType, Shape } from "../shape.ts";
import type { ProtobufWriter } from "./protobuf-writer.ts";

/** Numbers of element types in ONNX (onnx.proto, `TensorProto.DataType`). */
export const elementTypes: Readonly<Record<DType | "bfloat16" | "float16", number>> = {
  float32: 1,
  uint8: 2,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};

export type ElementType = keyof typeof elementTypes;

export function writeTensor(
  writer: ProtobufWriter,
  name: string,
  dtype: DType,
  shape: readonly number[],
  raw: Uint8Array,
): void {
  for (const size of shape) writer.integer(1, size);
  writer.integer(2, elementTypes[dtype]);
  writer.text(8, name);
  writer.bytes(9, raw);
}

export function writeValueInfo(writer: ProtobufWriter, name: string, dtype: ElementType, shape: Shape): void {
  writer.text(1, name);
  writer.message(2, (type) =>
    type.message(1, (tensor) => {
      tensor.integer(1, elementTypes[dtype]);
      tensor.message(2, (dimensions) => {
        for (const size of shape)
          dimensions.message(1, (dimension) =>
            typeof size === "number" ? dimension.integer(1, size) : dimension.text(2, size),
          );
      });
    }),
  );
}
