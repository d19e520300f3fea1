/*
 * Assembles the little WebAssembly that the engine needs for loops over its arrays: flat instructions by their names in the
 * text format, operands as words after them. Source: WebAssembly core specification 2.0, chapter 5 (binary format).
 */

type ValueType = "i32" | "f32" | "f64" | "v128";

export interface WasmFunction {
  readonly parameters: Readonly<Record<string, ValueType>>;
  readonly result?: ValueType;
  readonly locals?: Readonly<Record<string, ValueType>>;
  /** Words of the text format, names without `$`; `v128.load` and `v128.store` take a byte offset. */
  readonly body: string;
}

const valueTypes: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b };

type Operands = "none" | "local" | "integer" | "depth" | "empty-block" | "memory" | "sixteen-bytes" | "lane";

/** Opcode, and what follows it. */
const instructions: Readonly<Record<string, readonly [readonly number[], Operands]>> = {
  loop: [[0x03], "empty-block"],
  end: [[0x0b], "none"],
  br_if: [[0x0d], "depth"],
  "local.get": [[0x20], "local"],
  "local.set": [[0x21], "local"],
  "local.tee": [[0x22], "local"],
  "i32.const": [[0x41], "integer"],
  "i32.lt_u": [[0x49], "none"],
  "i32.add": [[0x6a], "none"],
  "f64.add": [[0xa0], "none"],
  "v128.load": [[0xfd, 0x00], "memory"],
  "v128.store": [[0xfd, 0x0b], "memory"],
  "i8x16.shuffle": [[0xfd, 0x0d], "sixteen-bytes"],
  "f32x4.splat": [[0xfd, 0x13], "none"],
  "f64x2.extract_lane": [[0xfd, 0x21], "lane"],
  "f32x4.ge": [[0xfd, 0x46], "none"],
  "v128.and": [[0xfd, 0x4e], "none"],
  "f64x2.promote_low_f32x4": [[0xfd, 0x5f], "none"],
  "f32x4.abs": [[0xfd, 0xe0, 0x01], "none"],
  "f32x4.sqrt": [[0xfd, 0xe3, 0x01], "none"],
  "f32x4.add": [[0xfd, 0xe4, 0x01], "none"],
  "f32x4.sub": [[0xfd, 0xe5, 0x01], "none"],
  "f32x4.mul": [[0xfd, 0xe6, 0x01], "none"],
  "f32x4.div": [[0xfd, 0xe7, 0x01], "none"],
  "f64x2.add": [[0xfd, 0xf0, 0x01], "none"],
  "f64x2.mul": [[0xfd, 0xf2, 0x01], "none"],
};

/**
 * A module that exports the functions by name and one memory as `memory`.
 *
 * @param pages  size of the memory in pages of 64 KiB
 * @throws Error for an unknown word, which is a mistake in the caller's text
 */
export function assembleWasm(
  functions: Readonly<Record<string, WasmFunction>>,
  pages: number,
): Uint8Array<ArrayBuffer> {
  const list = Object.entries(functions);
  const types = list.map(([, { parameters, result }]) => [
    0x60,
    ...vector(Object.values(parameters).map((type) => [valueTypes[type]])),
    ...vector(result ? [[valueTypes[result]]] : []),
  ]);
  const exported = list.map(([name], index) => [...text(name), 0x00, ...unsigned(index)]);
  const code = list.map(([name, definition]) => {
    const bytes = functionBody(name, definition);
    return [...unsigned(bytes.length), ...bytes];
  });
  const preamble = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  return Uint8Array.from([
    ...preamble,
    ...section(1, types),
    ...section(
      3,
      list.map((_, index) => unsigned(index)),
    ),
    ...section(5, [[0x00, ...unsigned(pages)]]),
    ...section(7, [...exported, [...text("memory"), 0x02, 0x00]]),
    ...section(10, code),
  ]);
}

function functionBody(name: string, { parameters, locals = {}, body }: WasmFunction): number[] {
  const names = [...Object.keys(parameters), ...Object.keys(locals)];
  const bytes = vector(Object.values(locals).map((type) => [1, valueTypes[type]]));
  const words = body.split(/\s+/).filter((word) => word !== "");
  for (let position = 0; position < words.length;) {
    const word = words[position++] as string;
    const known = instructions[word];
    if (!known) throw new Error(`${name}: ${word} is no known instruction`);
    const [opcode, operands] = known;
    const count = { none: 0, "empty-block": 0, "sixteen-bytes": 16 }[operands as string] ?? 1;
    const values = words.slice(position, position + count);
    position += count;
    bytes.push(...opcode, ...operandBytes(operands, values, names, name));
  }
  return [...bytes, 0x0b];
}

function operandBytes(
  operands: Operands,
  values: readonly string[],
  names: readonly string[],
  functionName: string,
): readonly number[] {
  const [value = ""] = values;
  if (operands === "none") return [];
  if (operands === "empty-block") return [0x40];
  if (operands === "local") {
    const index = names.indexOf(value);
    if (index < 0) throw new Error(`${functionName}: ${value} is no known local`);
    return unsigned(index);
  }
  const numbers = values.map(Number);
  if (numbers.length === 0 || numbers.some((number) => !Number.isInteger(number) || number < 0))
    throw new Error(`${functionName}: ${values.join(" ")} are no operands`);
  if (operands === "sixteen-bytes" || operands === "lane") return numbers;
  const number = numbers[0] as number;
  if (operands === "integer") return signed(number);
  return operands === "memory" ? [4, ...unsigned(number)] : unsigned(number); // 4: aligned to 16 bytes
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function text(value: string): number[] {
  return vector([...new TextEncoder().encode(value)].map((byte) => [byte]));
}

/** LEB128. */
function unsigned(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) | 128, ...unsigned(Math.floor(value / 128))];
}

/** LEB128 of a number that is not negative, with room for the sign. */
function signed(value: number): number[] {
  return value < 64 ? [value] : [(value % 128) | 128, ...signed(Math.floor(value / 128))];
}
