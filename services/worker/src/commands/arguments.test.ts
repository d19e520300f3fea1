import { expect, test } from "vitest";
import { parseArguments } from "./arguments.ts";

const options = { out: { type: "string" }, pixels: { type: "string" }, json: { type: "boolean" } } as const;
const usage = "logits DIR --out FILE";

test("options, flags and positional arguments are read", () => {
  const parsed = parseArguments(usage, ["folder", "--out", "x", "--pixels", "10", "--json"], options, 1);
  expect([parsed.positionals, parsed.required("out"), parsed.number("pixels"), parsed.flag("json")]).toEqual([
    ["folder"],
    "x",
    10,
    true,
  ]);
});

test.each([
  ["an unknown option", ["folder", "--outt", "x"], "Unknown option '--outt'"],
  ["a missing argument", ["--out", "x"], "1 argument expected, 0 given"],
  ["too many arguments", ["a", "b"], "1 argument expected, 2 given"],
])("%s is refused with the usage", (_case, values, message) => {
  expect(() => parseArguments(usage, values, options, 1)).toThrow(message);
  expect(() => parseArguments(usage, values, options, 1)).toThrow("usage: logits DIR --out FILE");
});

test.each([
  ["0", { minimum: 1, isWhole: true }, "--pixels takes a whole number of at least 1, not 0"],
  ["1.5", { minimum: 1, isWhole: true }, "--pixels takes a whole number of at least 1, not 1.5"],
  ["2", { minimum: 0, maximum: 1 }, "--pixels takes a number of at least 0 and at most 1, not 2"],
  ["-1", { minimum: 0 }, "--pixels takes a number of at least 0, not -1"],
])("the number %s is refused when it is out of range", (value, allowed, message) => {
  const parsed = parseArguments(usage, ["folder", `--pixels=${value}`], options, 1);
  expect(() => parsed.number("pixels", allowed)).toThrow(message);
});

test("a missing required option and a number that is none are named", () => {
  const parsed = parseArguments(usage, ["folder", "--pixels", "many"], options, 1);
  expect(() => parsed.required("out")).toThrow("--out is missing");
  expect(() => parsed.number("pixels")).toThrow('--pixels "many" is not a number');
});
