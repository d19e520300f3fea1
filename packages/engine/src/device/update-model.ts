import { elementTypes } from "./ort-library.ts";
import { plainModel, type PlainOperator } from "./plain-model.ts";

/** What the update is given in each step, one number each. */
export const updateFactors = [
  "scale",
  "beta1",
  "rest1",
  "beta2",
  "rest2",
  "keep",
  "rate",
  "rootScale",
  "epsilon",
] as const;
export type UpdateFactors = Readonly<Record<(typeof updateFactors)[number], number>>;

/** Arrays of a trained tensor on the device, by its name. */
export const deviceNames = {
  values: (name: string): string => `values:${name}`,
  gradient: (name: string): string => `gradient:${name}`,
  firstMoment: (name: string): string => `first-moment:${name}`,
  secondMoment: (name: string): string => `second-moment:${name}`,
  frozen: (name: string): string => `frozen:${name}`,
};

/**
 * AdamW of some tensors as an ONNX model: decoupled decay, bias-corrected moments, ε after the root.
 * Every input is read by an operator on whose result its output depends, so outputs may be written over inputs.
 * Source: Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; order of operations as torch.optim.AdamW.
 */
export function updateModel(tensors: readonly { readonly name: string; readonly isDecayed: boolean }[]): Uint8Array {
  const operators: PlainOperator[] = [];
  const inputs: string[] = [...updateFactors];
  const outputs: string[] = [];
  tensors.forEach(({ name, isDecayed }, index) => {
    const own = (part: string): string => `${index}.${part}`;
    const write = (type: string, output: string, ...parts: readonly string[]): string => {
      operators.push({ type, inputs: parts, output });
      return output;
    };
    const [values, gradient, first, second] = Object.values(deviceNames).map((nameOf) => nameOf(name)) as [
      string,
      string,
      string,
      string,
    ];
    inputs.push(values, gradient, first, second);
    const scaled = write("Mul", own("scaled"), gradient, "scale");
    const newFirst = write(
      "Add",
      `new:${first}`,
      write("Mul", own("first"), first, "beta1"),
      write("Mul", own("first-addend"), scaled, "rest1"),
    );
    const square = write("Mul", own("square"), scaled, scaled);
    const newSecond = write(
      "Add",
      `new:${second}`,
      write("Mul", own("second"), second, "beta2"),
      write("Mul", own("second-addend"), square, "rest2"),
    );
    const root = write("Mul", own("root"), write("Sqrt", own("plain-root"), newSecond), "rootScale");
    const direction = write("Div", own("direction"), newFirst, write("Add", own("divisor"), root, "epsilon"));
    const kept = isDecayed ? write("Mul", own("kept"), values, "keep") : values;
    outputs.push(write("Sub", `new:${values}`, kept, write("Mul", own("way"), direction, "rate")), newFirst, newSecond);
  });
  return plainModel(operators, inputs, outputs, elementTypes.float32);
}

/** Sum of the squares of all gradients, output `squares` `[1]`. */
export function squaresModel(names: readonly string[]): Uint8Array {
  const gradients = names.map(deviceNames.gradient);
  const parts = gradients.map((_, index) => `${index}.squares`);
  const operators: PlainOperator[] = gradients.map((gradient, index) => ({
    type: "ReduceSumSquare",
    inputs: [gradient],
    output: parts[index] as string,
    integers: { keepdims: 0 },
  }));
  return plainModel(
    [...operators, { type: "Sum", inputs: parts, output: "squares" }],
    gradients,
    ["squares"],
    elementTypes.float32,
  );
}

/** Arrays of zeros, output `zero:<name>`, each as large as the values of its tensor. */
export function zerosModel(names: readonly string[]): Uint8Array {
  const operators = names.flatMap((name, index): PlainOperator[] => [
    { type: "Shape", inputs: [deviceNames.values(name)], output: `${index}.shape` },
    { type: "ConstantOfShape", inputs: [`${index}.shape`], output: `zero:${name}` },
  ]);
  return plainModel(
    operators,
    names.map(deviceNames.values),
    names.map((name) => `zero:${name}`),
    elementTypes.float32,
  );
}
