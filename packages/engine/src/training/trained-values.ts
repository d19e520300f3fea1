import { InvalidError } from "@drydock/kit";
import { sharedFloats, toShared } from "../runtime/shared-floats.ts";
import { isDecayed } from "./adamw.ts";
import type { TrainedValues } from "./rank-update.ts";

/** @param isHere  whether this rank computes its gradient */
export function newTensor(
  {
    name,
    shape,
    isLayerNorm,
  }: { readonly name: string; readonly shape: readonly number[]; readonly isLayerNorm: boolean },
  isHere: boolean,
  values: Float32Array,
): TrainedValues {
  return {
    name,
    shape,
    values: toShared(values),
    gradient: sharedFloats(isHere ? values.length : 0),
    isDecayed: isDecayed(name, isLayerNorm),
  };
}

/** @throws InvalidError when an adapter lacks a tensor, or has it in another size */
export function initialOf(
  { name, shape }: { readonly name: string; readonly shape: readonly number[] },
  initial: ReadonlyMap<string, Float32Array>,
): Float32Array {
  const values = initial.get(name);
  if (!values || values.length !== shape.reduce((size, side) => size * side, 1))
    throw new InvalidError(
      "adapter_mismatch",
      `the adapter does not fit the model: ${name} should be [${shape.join(", ")}]`,
    );
  return values;
}
