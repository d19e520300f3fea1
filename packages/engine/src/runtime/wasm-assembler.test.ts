import { expect, test } from "vitest";
import { assembleWasm } from "./wasm-assembler.ts";

const add = { parameters: { a: "i32" }, body: "local.get a" } as const;

test("the shortest module is that of the specification's binary format", () => {
  const bytes = assembleWasm({ f: { parameters: {}, body: "" } }, 1);
  expect(Buffer.from(bytes).toString("hex")).toBe(
    "0061736d01000000" +
      "010401600000" +
      "03020100" +
      "0503010001" +
      "070e02016600000" +
      "66d656d6f72790200" +
      "0a040102000b",
  );
});

test("a word that is no instruction, local or operand is named with its function", () => {
  expect(() => assembleWasm({ f: { ...add, body: "local.give a" } }, 1)).toThrow(
    "f: local.give is no known instruction",
  );
  expect(() => assembleWasm({ f: { ...add, body: "local.get b" } }, 1)).toThrow("f: b is no known local");
  expect(() => assembleWasm({ f: { ...add, body: "i32.const x" } }, 1)).toThrow("f: x are no operands");
});
